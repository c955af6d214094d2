/* VXLAN encapsulation over IPv4 (RFC 7348, 5): what enters inside goes, whole, behind Ethernet, IPv4, UDP and VXLAN.
 *
 * The source port is the flow's, in the dynamic range; there is no UDP checksum; both outer MACs are the gateway's.
 * Nothing is fragmented (4.3). The way back is as it is.
 */
#include "checksums.h"
#include "crc32.h"
#include "nf.h"

#define HEADERS 50
#define IPV4_AT 14
#define UDP_AT 34
#define FIRST_PORT 0xC000u
#define PORTS 0x4000u /* a power of 2 */

enum { NO_ROOM };

struct vxlan_encap {
    struct nf nf;
    u8 headers[HEADERS]; /* without lengths and the source port; the checksum is of that */
};

static struct nf *init(struct reader *config, const struct shared *memory)
{
    (void)memory;
    return nf_make_of(config, sizeof(struct vxlan_encap), offsetof(struct vxlan_encap, headers), HEADERS);
}

static u32 source_port_of(const struct packet *p)
{
    u8 flow[32];
    u128 source, destination;
    packet_flow(p, &source, &destination);
    store_be_long(flow, source, 16);
    store_be_long(flow + 16, destination, 16);
    return FIRST_PORT + crc32_of(0, flow, sizeof flow) % PORTS;
}

static void process_burst(struct nf *nf, struct packet *const *packets, u32 count, u64 now_us)
{
    const struct vxlan_encap *encap = (const struct vxlan_encap *)nf;
    (void)now_us;
    for (u32 i = 0; i < count; i++) {
        struct packet *p = packets[i];
        p->left = other(p->port);
        if (p->port == OUTSIDE)
            continue;
        u32 source_port = source_port_of(p), length = p->size + HEADERS - UDP_AT;
        if (!packet_grow(p, HEADERS)) {
            nf_drop(p, NO_ROOM);
            continue;
        }
        u8 *at = p->at;
        memcpy(at, encap->headers, HEADERS);
        store_be(at + IPV4_AT + 2, length + 20, 2);
        patch(at + IPV4_AT + 10, delta(0, length + 20, 2));
        store_be(at + UDP_AT, source_port, 2);
        store_be(at + UDP_AT + 4, length, 2);
        packet_parse(p);
    }
}

static const char *const reasons[] = {"no_room", NULL};
static struct nf_ops ops = {.name = "vxlan_encap", .reasons = reasons, .init = init, .process_burst = process_burst};
NF(ops)
