#include "events.h"

#include "boundary.h"
#include "noting.h"

#define COST 1000000 /* of an event: budgets are in millionths, so a rate is what comes back each microsecond */

_Static_assert(EVENTS == sizeof ((struct nf *)0)->events / sizeof(u64 *), "an NF has a budget a kind");

struct nf *events_of;
u64 events_us;

static bool may_tell(enum event kind)
{
    if (!events_of)
        return false;
    u64 *budget = events_of->events[kind], back = (events_us - budget[AT_US]) * budget[RATE];
    u64 spent = budget[SPENT] > back ? budget[SPENT] - back : 0;
    bool may = spent + COST <= budget[MOST] * COST;
    budget[AT_US] = events_us;
    budget[SPENT] = spent + (may ? COST : 0);
    budget[SUPPRESSED] += !may;
    return may;
}

static void tell(const struct note_event *e)
{
    u8 *at = noting_room(TOLD_EVENT, events_of->told_as, sizeof *e);
    if (at)
        memcpy(at, e, sizeof *e);
}

static void tell_packet(struct note_event e, const struct packet *p)
{
    e.ether_type = p->ether_type;
    e.version = p->version;
    e.protocol = p->protocol;
    e.length = p->size;
    e.has_ports = p->has_ports;
    e.source_port = p->source_port;
    e.destination_port = p->destination_port;
    if (p->version) {
        store_be_long(e.source, packet_source(p), 16);
        store_be_long(e.destination, packet_destination(p), 16);
        e.ttl = packet_ttl(p);
        e.is_icmp = p->l4 && p->protocol == (p->version == 4 ? ICMP : ICMPV6);
    }
    if (e.is_icmp)
        memcpy(e.type_and_code, p->at + p->l4, 2);
    tell(&e);
}

void events_dropped(const struct packet *p)
{
    if (may_tell(EVENT_DROP))
        tell_packet((struct note_event){.now_us = events_us, .kind = EVENT_DROP, .number = p->reason, .rule = p->rule}, p);
}

void events_alert(const struct packet *p, u32 signature)
{
    if (may_tell(EVENT_ALERT))
        tell_packet((struct note_event){.now_us = events_us, .kind = EVENT_ALERT, .number = signature}, p);
}

void events_nat(enum nat_event what, u8 protocol, u32 inside, u32 inside_port, u32 outside, u32 outside_port)
{
    if (!may_tell(EVENT_NAT))
        return;
    struct note_event e = {.now_us = events_us, .kind = EVENT_NAT, .number = what, .protocol = protocol,
                           .source_port = (u16)inside_port, .destination_port = (u16)outside_port};
    store_be(e.source, inside, 4);
    store_be(e.destination, outside, 4);
    tell(&e);
}
