"""DMTF's python library: session and basic login, a walk over every link, a write guarded by its ETag."""

import sys

import redfish

PASSED = 0


def check(what, holds):
    global PASSED
    if not holds:
        raise SystemExit(f"FAILED: {what}")
    PASSED += 1


def links(value):
    if isinstance(value, dict):
        for name, inner in value.items():
            if name in ("@odata.id", "Uri") and isinstance(inner, str):
                yield inner
            else:
                yield from links(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from links(inner)


def main(url, user, password):
    for auth in ("session", "basic"):
        client = redfish.redfish_client(base_url=url, username=user, password=password)
        client.login(auth=auth)
        seen, queue = set(), ["/redfish/v1/"]
        while queue:
            uri = queue.pop()
            if uri in seen:
                continue
            seen.add(uri)
            answer = client.get(uri)
            check(uri, answer.status == 200)
            queue.extend(links(answer.dict))
        check("a whole tree", len(seen) > 40)
        expanded = client.get("/redfish/v1/Systems", args={"$expand": ".($levels=1)"})
        check("$expand", expanded.dict["Members"][0]["Id"] == "1")
        system = client.get("/redfish/v1/Systems/1")
        etag = system.getheader("ETag")
        good = client.patch(system.dict["@odata.id"], body={"AssetTag": auth}, headers={"If-Match": etag})
        check("guarded write", good.status == 200 and good.dict["AssetTag"] == auth)
        stale = client.patch(system.dict["@odata.id"], body={"AssetTag": "x"}, headers={"If-Match": etag})
        check("stale write", stale.status == 412)
        client.logout()
    print(f"{PASSED} checks passed")


main(*sys.argv[1:])
