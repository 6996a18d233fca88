"""URIs of Flux instances, and what can be resolved to one: jobs, processes, jobs of other managers (spec 04, 6).

from flux.uri import FluxURIResolver
uri = FluxURIResolver().resolve("ƒ2oA3")
h = flux.Flux(uri.local)
"""

from flux.uri.uri import FluxURIResolver, JobURI, URI, URIResolverPlugin, URIResolverURI  # isort: skip

__all__ = ["URI", "FluxURIResolver", "JobURI", "URIResolverPlugin", "URIResolverURI"]
