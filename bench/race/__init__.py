"""One job, several proxies: mutual TLS, a 1 KB tools/call in, a 1 KB reply out.

    command     the options, and what is printed
    contest     starts everything, interleaves the rounds, stops everything
    peers       which proxies there are, and which of them this machine has
    nginx haproxy envoy sidecar    one proxy each: its configuration and command
    site        the folder, certificates, ports and CPUs a race is held on
    certs       a throw-away CA and three identities
    payload     the request, the reply, the hundred patterns
    upstream    the server behind every proxy
    probe       a proxy that does not do the job is not measured
    generator   the load, in a process of its own
    h2_payload h2_probe h2_generator    the same requests, trials and load over HTTP/2
    measure     CPU and memory of a process tree, from /proc
    summary     rounds -> medians, ratios, tables

Nothing of the package `sidecar` is imported: it is measured from outside.
"""
