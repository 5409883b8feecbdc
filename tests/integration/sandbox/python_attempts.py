"""Python that wants out, each the body of a function: an attempt got out when it returns something true.

`{secret}` is a file that must not be read, `{written}` one that must not come to be, `{victim}` a process of the same
user, `{port}` where somebody listens. Numbers of system calls are those of x86_64.
"""

_RAW = "import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\n"

READING = {
    "open": "return open('{secret}').read()",
    "open by descriptor": "import os\nreturn os.read(os.open('{secret}', os.O_RDONLY), 9)",
    "open raw": "import io\nreturn io.FileIO('{secret}').read()",
    "open the path only": "import os\nfd = os.open('{secret}', os.O_PATH)\nreturn open(f'/proc/self/fd/{{fd}}').read()",
    "pathlib": "import pathlib\nreturn pathlib.Path('{secret}').read_bytes()",
    "linecache": "import linecache\nreturn linecache.getline('{secret}', 1)",
    "fileinput": "import fileinput\nreturn next(fileinput.input('{secret}'))",
    "a loader of sources": (
        "from importlib.machinery import SourceFileLoader as L\nreturn L('x', '{secret}').get_data('{secret}')"
    ),
    "runpy": "import runpy\nreturn runpy.run_path('{secret}')",
    "importlib by a changed path": "import sys\nsys.path.insert(0, '{folder}')\nimport escaped\nreturn escaped",
    "ctypes fopen": _RAW + "libc.fopen.restype = ctypes.c_void_p\nreturn libc.fopen(b'{secret}', b'r')",
    "openat2": _RAW + "how = (ctypes.c_ulong * 3)()\nreturn libc.syscall(437, -100, b'{secret}', how, 24) >= 0",
    "mapped by Arrow": "return pa.memory_map('{secret}').read()",
    "Arrow's files": "return pa.OSFile('{secret}').read()",
    "Arrow's CSV": "import pyarrow.csv as c\nreturn len(c.read_csv('{secret}.csv')) + 1",
    "Arrow's file system": "import pyarrow.fs as f\nreturn f.LocalFileSystem().open_input_file('{secret}').read()",
    "an Arrow data set": "import pyarrow.dataset as d\nreturn d.dataset('{secret}.csv', format='csv').to_table()",
    "a library from elsewhere": "import ctypes\nreturn ctypes.CDLL('{secret}')",
    "passwd": "return open('/etc/passwd').read()",
    "the list of folders": "import os\nreturn os.listdir('{folder}')",
    "the root's folder": "import os\nreturn os.listdir('/')",
    "folders by walking": "import os\nreturn list(os.walk('/tmp'))",
    "its environment": "return open('/proc/self/environ').read()",
    "its memory": "return open('/proc/self/mem', 'rb')",
    "its maps": "return open('/proc/self/maps').read()",
    "its descriptors by name": "import os\nreturn os.listdir('/proc/self/fd')",
    "the environment of another": "return open('/proc/{victim}/environ').read()",
    "the arguments of another": "return open('/proc/{victim}/cmdline').read()",
    "the memory of another": "return open('/proc/{victim}/mem', 'rb')",
    "the descriptors of another": "import os\nreturn os.open('/proc/{victim}/fd/0', os.O_RDONLY) + 1",
    "who else runs": "import os\nreturn [name for name in os.listdir('/proc') if name.isdigit()]",
    "the machine's memory": "return open('/dev/mem', 'rb')",
    "the kernel's log": "return open('/dev/kmsg')",
    "a terminal": "return open('/dev/tty')",
}
WRITING = {
    "open": "return open('{written}', 'w')",
    "create by descriptor": "import os\nreturn os.open('{written}', os.O_CREAT | os.O_WRONLY) + 1",
    "a file without a name": "import os\nreturn os.open('/tmp', os.O_TMPFILE | os.O_RDWR) + 1",
    "tempfile": "import tempfile\nreturn tempfile.TemporaryFile()",
    "shared memory by name": "return open('/dev/shm/escaped', 'w')",
    "a folder": "import os\nos.mkdir('{written}')\nreturn True",
    "a named pipe": "import os\nos.mkfifo('{written}')\nreturn True",
    "a link": "import os\nos.symlink('{secret}', '{written}')\nreturn True",
    "a hard link": "import os\nos.link('{secret}', '{written}')\nreturn True",
    "rename": "import os\nos.rename('{secret}', '{written}')\nreturn True",
    "remove": "import os\nos.unlink('{secret}')\nreturn True",
    "truncate": "import os\nos.truncate('{secret}', 0)\nreturn True",
    "change its mode": "import os\nos.chmod('{secret}', 0o777)\nreturn True",
    "change its time": "import os\nos.utime('{secret}')\nreturn True",
    "its own library": "import os\nreturn open(os.__file__, 'a')",
    "a compiled module": "import py_compile as p, os\nreturn p.compile(os.__file__, cfile='{written}', doraise=True)",
    "a database": "import sqlite3\nreturn sqlite3.connect('{written}').execute('create table t (x)')",
    "Arrow's files": "return pa.OSFile('{written}', 'wb')",
    "a log": "import logging\nreturn logging.FileHandler('{written}')",
    "its own score": "return open('/proc/self/oom_score_adj', 'w')",
}
NETWORK = {
    "TCP": "import socket\nreturn socket.create_connection(('127.0.0.1', {port}), 1)",
    "UDP": "import socket\nreturn socket.socket(socket.AF_INET, socket.SOCK_DGRAM)",
    "IPv6": "import socket\nreturn socket.socket(socket.AF_INET6)",
    "unix": "import socket\nreturn socket.socket(socket.AF_UNIX)",
    "netlink": "import socket\nreturn socket.socket(16, socket.SOCK_RAW)",
    "raw packets": "import socket\nreturn socket.socket(17, socket.SOCK_RAW)",
    "a pair": "import socket\nreturn socket.socketpair()",
    "a name": "import socket\nreturn socket.getaddrinfo('localhost.example', 80)",
    "urllib": "import urllib.request\nreturn urllib.request.urlopen('http://127.0.0.1:{port}/', timeout=1)",
    "asyncio": "import asyncio\nreturn asyncio.run(asyncio.open_connection('127.0.0.1', {port}))",
    "its wire turned to listen": "import socket\nreturn [socket.socket(fileno=fd).listen() for fd in range(3, 64)]",
    "a syscall of one's own code": (
        "import ctypes, mmap\n"
        "page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)\n"
        "page.write(bytes.fromhex('b829000000bf02000000be0100000031d20f05c3'))\n"
        "call = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))\n"
        "return call() >= 0"
    ),
    "a call of the old kind": (
        "import ctypes, mmap\n"
        "page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)\n"
        "page.write(bytes.fromhex('b814000000cd80c3'))\n"
        "return ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))() > 0"
    ),
    "a call of the third kind": _RAW + "return libc.syscall(ctypes.c_long(0x40000000 + 39)) > 0",
}
PROCESSES = {
    "fork": "import os\npid = os.fork()\nif pid == 0:\n    os._exit(0)\nreturn pid",
    "exec": "import os\nos.execv('/bin/true', ['true'])",
    "spawn": "import os\nreturn os.posix_spawn('/bin/true', ['true'], {{}})",
    "subprocess": "import subprocess\nreturn subprocess.run(['/bin/true'], check=True)",
    "system": "import os\nreturn os.system('true') == 0",
    "system by ctypes": _RAW + "return libc.system(b'true') == 0",
    "popen": "import os\nreturn os.popen('echo x').read()",
    "multiprocessing": "import multiprocessing as m\nm.get_context('fork').Process(target=print).start()\nreturn True",
    "a terminal of its own": "import pty\nreturn pty.fork()",
    "a pickle": (
        "import pickle, os\nclass X:\n    def __reduce__(self):\n        return os.system, ('true',)\n"
        "return pickle.loads(pickle.dumps(X())) == 0"
    ),
    "a thread": "import threading\nthreading.Thread(target=print).start()\nreturn True",
    "a thread by hand": "import _thread\nreturn _thread.start_new_thread(print, ())",
    "clone": _RAW + "return libc.syscall(56, 17, 0, 0, 0, 0) > 0",
    "clone as a thread": _RAW + "return libc.syscall(56, 0x10f00, 0, 0, 0, 0) > 0",
    "clone3": _RAW + "return libc.syscall(435, (ctypes.c_ulong * 11)(), 88) >= 0",
    "a file in memory": "import os\nreturn os.memfd_create('x') + 1",
    "exec from memory": _RAW + "return libc.syscall(322, 0, b'', 0, 0, 0x1000) == 0",
    "kill another": "import os, signal\nos.kill({victim}, 0)\nreturn True",
    "kill its parent": "import os\nos.kill(os.getppid(), 0)\nreturn True",
    "kill a group": "import os\nos.killpg(0, 0)\nreturn True",
    "kill all": "import os\nos.kill(-1, 0)\nreturn True",
    "a handle on another": "import os\nreturn os.pidfd_open({victim}) + 1",
    "a signal through a descriptor": (
        "import fcntl\nreturn [fcntl.fcntl(fd, fcntl.F_SETOWN, {victim}) for fd in range(3)]"
    ),
    "a signal's number": "import fcntl\nreturn fcntl.fcntl(0, 10, 9) == 0",
    "a signal by ioctl": (
        "import fcntl, struct\n"
        "def owned(fd):\n"
        "    try:\n        return fcntl.ioctl(fd, 0x8901, struct.pack('i', {victim}))\n"
        "    except OSError:\n        return None\n"
        "return [fd for fd in range(3, 64) if owned(fd)]"
    ),
    "typing into a terminal": "import fcntl\nreturn fcntl.ioctl(0, 0x5412, b'x')",
    "a lease on a library": "import fcntl, os\nreturn fcntl.fcntl(os.open(os.__file__, 0), 1024, fcntl.F_RDLCK) == 0",
    "a notice of a folder": (
        "import fcntl, os\nfolder = os.open(os.path.dirname(os.__file__), 0)\nreturn fcntl.fcntl(folder, 1026, 2) == 0"
    ),
    "trace another": _RAW + "return libc.syscall(101, 16, {victim}, 0, 0) == 0",
    "read another": _RAW + "return libc.syscall(310, {victim}, 0, 0, 0, 0, 0) >= 0",
    "limits of another": "import resource\nreturn resource.prlimit({victim}, resource.RLIMIT_NOFILE, (9, 9))",
    "its own processors": "import os\nos.sched_setaffinity(0, os.sched_getaffinity(0))\nreturn True",
    "the processors of another": "import os\nos.sched_setaffinity({victim}, {{0}})\nreturn True",
    "the turn of another": "import os\nos.setpriority(os.PRIO_PROCESS, {victim}, 19)\nreturn True",
}
LOCK = {
    "raise a limit": "import resource\nresource.setrlimit(resource.RLIMIT_CPU, (-1, -1))\nreturn True",
    "become root": "import os\nos.setresuid(0, 0, 0)\nreturn True",
    "take powers": (
        _RAW + "all_of_them = (ctypes.c_uint * 6)(*[2**32 - 1] * 6)\n"
        "return libc.syscall(126, (ctypes.c_uint * 2)(0x20080522), all_of_them) == 0"
    ),
    "another filter": _RAW + "return libc.syscall(317, 1, 0, 0) == 0 or ctypes.get_errno() not in (1, 11)",
    "another filter by prctl": _RAW + "return libc.prctl(22, 2, 0, 0, 0) == 0",
    "let others look": _RAW + "return libc.prctl(4, 1, 0, 0, 0) == 0",
    "outlive its parent": _RAW + "return libc.prctl(1, 0, 0, 0, 0) == 0",
    "a namespace": "import ctypes\nreturn ctypes.CDLL(None).unshare(0x10000000) == 0",
    "a mount": _RAW + "return libc.mount(b'none', b'/mnt', b'tmpfs', 0, 0) == 0",
    "another root": "import os\nos.chroot('/tmp')\nreturn True",
    "bpf": _RAW + "return libc.syscall(321, 0, 0, 0) >= 0",
    "io_uring": _RAW + "return libc.syscall(425, 8, (ctypes.c_uint * 30)()) >= 0",
    "perf": _RAW + "return libc.syscall(298, (ctypes.c_uint * 30)(), 0, -1, -1, 0) >= 0",
    "userfaultfd": _RAW + "return libc.syscall(323, 1) >= 0",
    "keys": _RAW + "return libc.syscall(250, 0, -3, 1) >= 0",
    "shared memory": _RAW + "return libc.syscall(29, 1234, 4096, 0o1600) >= 0",
    "a file by its handle": _RAW + "return libc.syscall(304, -100, (ctypes.c_uint * 40)(), 0) >= 0",
    "watch files": _RAW + "return libc.syscall(294, 0) >= 0",
    "stop the machine": _RAW + "return libc.syscall(169, 0, 0, 0, 0) == 0",
    "flush every disk": _RAW + "return libc.syscall(162) == 0",
    "other calls refused by number": (
        _RAW + "from dataaggregator.dataplane.sandbox.syscalls import refused\n"
        "def call(number):\n"
        "    return libc.syscall(ctypes.c_long(number), 0, 0, 0, 0, 0, 0) == -1 and ctypes.get_errno()\n"
        "return [number for number in refused('x86_64') if call(number) not in (1, 11)]"
    ),
}  # fmt: skip
WITHIN = {
    "secrets in the environment": "import os\nreturn set(os.environ) - {{'LC_CTYPE'}}",
    "secrets in the arguments": "import sys\nreturn [one for one in sys.argv[1:] if not one.isdigit()]",
    "other descriptors than its own": (
        "import os\n"
        "def there(fd):\n    try:\n        return bool(os.fstat(fd))\n    except OSError:\n        return False\n"
        "import socket\n"
        "held = [fd for fd in range(3, 64) if there(fd)]\n"
        "wires = [fd for fd in held if os.path.stat.S_ISSOCK(os.fstat(fd).st_mode)]\n"
        "files = [fd for fd in held if os.path.stat.S_ISREG(os.fstat(fd).st_mode)]\n"
        "return len(wires) != 1 or files"
    ),
    "the engine": "import sys\nreturn 'duckdb' in sys.modules",
    "what counts": (
        "import gc\n"
        "names = {{'Session', 'Graph', 'Node', 'Engine', 'Tally', 'StageCounts', 'Sandbox', 'Door'}}\n"
        "return [one for one in gc.get_objects() if type(one).__name__ in names]"
    ),
    "the key to mask with, by objects": (
        "import gc\nreturn [one for one in gc.get_objects() if isinstance(one, dict) and 'mask_key' in one]"
    ),
    "the key to mask with, by frames": (
        "import sys\nframe, found = sys._getframe(), []\n"
        "while frame:\n    found += [n for n in frame.f_locals if n in ('engine', 'graph', 'mask_key', 'limits')]\n"
        "    frame = frame.f_back\n"
        "return [name for name in found if name != 'limits']"
    ),
    "the engine imported": "import duckdb\nreturn duckdb.sql(\"select content from read_text('{secret}')\").fetchall()",
    "a sandbox of its own": (
        "import asyncio, pathlib\nfrom dataaggregator.dataplane.sandbox.host import Sandbox\n"
        "from dataaggregator.dataplane.sandbox.messages import SandboxLimits\n"
        "from dataaggregator.dataplane.sandbox.spawning import SandboxTemplates\n"
        "at = pathlib.Path('{written}')\n"
        "async def start():\n    return await Sandbox.start(SandboxLimits(at), SandboxTemplates(at).forks)\n"
        "return asyncio.run(start())"
    ),
}
EVERY = {
    f"{group}: {name}": body
    for group, attempts in (
        ("within", WITHIN), ("read", READING), ("write", WRITING), ("network", NETWORK), ("processes", PROCESSES),
        ("lock", LOCK),
    )
    for name, body in attempts.items()
}  # fmt: skip
