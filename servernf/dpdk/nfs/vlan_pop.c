/* Takes the outermost VLAN tag (IEEE 802.1Q, 9.6) off; a frame with more than two is dropped. What enters outside
 * passes unchanged. */
#include "nf.h"

#define MACS 12
#define VLAN_TAG 4
#define ANY 0xFFFFFFFFu

enum { OTHER_VLAN, THIRD_TAG };

struct vlan_pop {
    struct nf nf;
    u32 vid; /* that is taken off, or ANY */
    bool drops_others;
};

static struct nf *init(struct reader *config, const struct shared *memory)
{
    (void)memory;
    u32 vid = take_u32(config), drops = take_u32(config);
    struct vlan_pop *pop = config->bad || (vid > 4094 && vid != ANY) ? NULL : nf_make(sizeof *pop, 0, 0);
    if (!pop)
        return NULL;
    pop->vid = vid;
    pop->drops_others = drops;
    return &pop->nf;
}

static void process_burst(struct nf *nf, struct packet *const *packets, u32 count, u64 now_us)
{
    const struct vlan_pop *pop = (const struct vlan_pop *)nf;
    (void)now_us;
    for (u32 i = 0; i < count; i++) {
        struct packet *p = packets[i];
        p->left = other(p->port);
        if (p->port == OUTSIDE)
            continue;
        bool tagged = p->l3 > 14;
        if (!tagged || (pop->vid != ANY && pop->vid != (load_be(p->at + 14, 2) & 0x0FFF))) {
            if (pop->drops_others)
                nf_drop(p, OTHER_VLAN);
        } else if (p->ether_type == 0x8100 || p->ether_type == 0x88A8) {
            nf_drop(p, THIRD_TAG);
        } else {
            memmove(p->at + VLAN_TAG, p->at, MACS);
            packet_shrink(p, VLAN_TAG);
            packet_parse(p);
        }
    }
}

static const char *const reasons[] = {"other_vlan", "third_tag", NULL};
static struct nf_ops ops = {.name = "vlan_pop", .reasons = reasons, .init = init, .process_burst = process_burst};
NF(ops)
