/* Adds a VLAN tag (IEEE 802.1Q, 9.6) in front of those that a frame has; a frame with two is dropped. What enters
 * outside passes unchanged. */
#include "nf.h"

#define MACS 12
#define VLAN_TAG 4

enum { TWO_TAGS, NO_ROOM };

struct vlan_push {
    struct nf nf;
    u8 tag[VLAN_TAG];
};

static struct nf *init(struct reader *config, const struct shared *memory)
{
    (void)memory;
    return nf_make_of(config, sizeof(struct vlan_push), offsetof(struct vlan_push, tag), VLAN_TAG);
}

static void process_burst(struct nf *nf, struct packet *const *packets, u32 count, u64 now_us)
{
    const struct vlan_push *push = (const struct vlan_push *)nf;
    (void)now_us;
    for (u32 i = 0; i < count; i++) {
        struct packet *p = packets[i];
        p->left = other(p->port);
        if (p->port == OUTSIDE)
            continue;
        if (p->l3 > 14 + VLAN_TAG || !packet_grow(p, VLAN_TAG)) {
            nf_drop(p, p->l3 > 14 + VLAN_TAG ? TWO_TAGS : NO_ROOM);
            continue;
        }
        memmove(p->at, p->at + VLAN_TAG, MACS);
        memcpy(p->at + MACS, push->tag, VLAN_TAG);
        packet_parse(p);
    }
}

static const char *const reasons[] = {"two_tags", "no_room", NULL};
static struct nf_ops ops = {.name = "vlan_push", .reasons = reasons, .init = init, .process_burst = process_burst};
NF(ops)
