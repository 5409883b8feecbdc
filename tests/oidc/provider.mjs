// An identity provider on loopback: node provider.mjs PORT CALLBACK ACCOUNTS, where ACCOUNTS is a file of claims by account.
// Who comes to /interaction/… with ?account=NAME has logged in as that one.
import { generateKeyPairSync } from "node:crypto";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { Provider } from "oidc-provider";

const [port, callback, accounts] = process.argv.slice(2);
const { privateKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });

const provider = new Provider(`http://127.0.0.1:${port}`, {
  clients: [{ client_id: "data-aggregator", client_secret: "only for tests", redirect_uris: [callback] }],
  jwks: { keys: [{ ...privateKey.export({ format: "jwk" }), kid: "first", use: "sig", alg: "RS256" }] },
  cookies: { keys: ["only for tests"] },
  claims: { openid: ["sub"], email: ["email", "email_verified"], profile: ["name"], groups: ["groups"] },
  features: { devInteractions: { enabled: false } },
  interactions: { url: (_, interaction) => `/interaction/${interaction.uid}` },
  findAccount: (_, id) => ({
    accountId: id,
    claims: () => ({ sub: id, ...JSON.parse(readFileSync(accounts, "utf8"))[id] }),
  }),
  loadExistingGrant: async ({ oidc }) => {
    const grant = new provider.Grant({ clientId: oidc.client.clientId, accountId: oidc.session.accountId });
    grant.addOIDCScope("openid email profile groups");
    await grant.save();
    return grant;
  },
});

const answer = provider.callback();
createServer((request, response) => {
  const { pathname, searchParams } = new URL(request.url, provider.issuer);
  if (!pathname.startsWith("/interaction/")) return answer(request, response);
  const account = searchParams.get("account");
  const result = account ? { login: { accountId: account } } : { error: "access_denied" };
  return provider.interactionFinished(request, response, result, { mergeWithLastSubmission: false });
}).listen(Number(port), "127.0.0.1");
