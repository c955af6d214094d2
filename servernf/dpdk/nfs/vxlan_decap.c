/* VXLAN decapsulation (RFC 7348, 4.1): of what enters outside, what is VXLAN of a VNI to an address becomes the frame
 * that is in it; all else is dropped, and so is a frame with a tag of this network. The way out is as it is. */
#include "nf.h"

#define PORT 4789
#define HEADERS 16 /* UDP and VXLAN */
#define HAS_VNI 0x08
#define NSH 0x894F

enum { NOT_VXLAN, OTHER_VNI, FORGED_TAG, MALFORMED_INSIDE };

struct vxlan_decap {
    struct nf nf;
    u32 vni, local;
};

static struct nf *init(struct reader *config, const struct shared *memory)
{
    (void)memory;
    u32 vni = take_u32(config), local = take_u32(config);
    struct vxlan_decap *decap = config->bad ? NULL : nf_make(sizeof *decap, 0, 0);
    if (!decap)
        return NULL;
    decap->vni = vni;
    decap->local = local;
    return &decap->nf;
}

static bool is_vxlan(const struct packet *p, u32 local)
{
    if (p->version != 4 || p->protocol != UDP || !p->has_ports || p->destination_port != PORT)
        return false;
    const u8 *l3 = p->at + p->l3, *l4 = p->at + p->l4;
    return load_be(l3 + 16, 4) == local && !(load_be(l3 + 6, 2) & 0x3FFF) && load_be(l4 + 4, 2) >= HEADERS &&
           l4[8] & HAS_VNI;
}

/* Why a packet is dropped, or -1: it is in place of the one that it came in. */
static int decapsulate(struct packet *p, const struct vxlan_decap *decap)
{
    if (!is_vxlan(p, decap->local))
        return NOT_VXLAN;
    const u8 *l4 = p->at + p->l4;
    if (load_be(l4 + 12, 3) != decap->vni)
        return OTHER_VNI;
    u32 outer = p->l4 + HEADERS;
    if (p->size >= outer + 14 && load_be(l4 + HEADERS + 12, 2) == NSH)
        return FORGED_TAG;
    packet_shrink(p, outer);
    return packet_parse(p) ? -1 : MALFORMED_INSIDE;
}

static void process_burst(struct nf *nf, struct packet *const *packets, u32 count, u64 now_us)
{
    const struct vxlan_decap *decap = (const struct vxlan_decap *)nf;
    (void)now_us;
    for (u32 i = 0; i < count; i++) {
        struct packet *p = packets[i];
        p->left = other(p->port);
        int why = p->port == OUTSIDE ? decapsulate(p, decap) : -1;
        if (why >= 0)
            nf_drop(p, (u8)why);
    }
}

static const char *const reasons[] = {"not_vxlan", "other_vni", "forged_tag", "malformed", NULL};
static struct nf_ops ops = {.name = "vxlan_decap", .reasons = reasons, .init = init, .process_burst = process_burst};
NF(ops)
