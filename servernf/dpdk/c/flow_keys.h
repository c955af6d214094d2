/* Keys of tables that packets fill (servernf/python/flow_keys.py): protocol, addresses, ports as they are on the wire.
 */
#ifndef DPDK_FLOW_KEYS_H
#define DPDK_FLOW_KEYS_H

#include "packet.h"
#include "records.h"
#include "table.h"

/* An address and its port as they are on the wire; 0 without ports. */
struct end {
    u8 bytes[18];
    u32 size;
};

static inline void end_of(const struct packet *p, bool source, struct end *e)
{
    const u8 *l3 = p->at + p->l3;
    u32 bytes = p->version == 4 ? 4 : 16;
    memcpy(e->bytes, l3 + (p->version == 4 ? 12 : 8) + (source ? 0 : bytes), bytes);
    e->bytes[bytes] = e->bytes[bytes + 1] = 0;
    if (p->has_ports)
        memcpy(e->bytes + bytes, p->at + p->l4 + (source ? 0 : 2), 2);
    e->size = bytes + 2;
}

static inline void end_make(struct end *e, u8 version, u128 address, u32 port)
{
    u32 bytes = version == 4 ? 4 : 16;
    store_be_long(e->bytes, address, bytes);
    store_be(e->bytes + bytes, port, 2);
    e->size = bytes + 2;
}

/* Of both directions of a flow: protocol, inside end, outside end. */
static inline void key_of_ends(struct key *k, u8 protocol, const struct end *inside, const struct end *outside)
{
    u8 *at = (u8 *)k->word;
    key_start(k);
    at[0] = protocol;
    memcpy(at + 1, inside->bytes, inside->size);
    memcpy(at + 1 + inside->size, outside->bytes, outside->size);
    key_end(k, 1 + inside->size + outside->size);
}

static inline void key_of_flow(struct key *k, const struct packet *p, bool inside)
{
    if (likely(p->version == 4 && p->has_ports)) { /* as below, without a call for each part */
        const u8 *l3 = p->at + p->l3, *l4 = p->at + p->l4;
        u32 source, destination;
        u16 ports[2];
        u8 *at = (u8 *)k->word;
        memcpy(&source, l3 + 12, 4);
        memcpy(&destination, l3 + 16, 4);
        memcpy(ports, l4, 4);
        k->word[0] = k->word[1] = 0;
        at[0] = (u8)p->protocol;
        memcpy(at + 1, inside ? &source : &destination, 4);
        memcpy(at + 5, inside ? &ports[0] : &ports[1], 2);
        memcpy(at + 7, inside ? &destination : &source, 4);
        memcpy(at + 11, inside ? &ports[1] : &ports[0], 2);
        at[15] = 13;
        k->words = 2;
        return;
    }
    struct end source, destination;
    end_of(p, true, &source);
    end_of(p, false, &destination);
    key_of_ends(k, (u8)p->protocol, inside ? &source : &destination, inside ? &destination : &source);
}

/* Whom an end is counted for: its IPv4 address, or the /64 of its IPv6 address (RFC 7934). */
static inline u64 host_of(const u8 *address, u32 address_bytes, u32 *size)
{
    u64 host = 0;
    *size = address_bytes == 4 ? 4 : 8;
    memcpy(&host, address, *size);
    return host;
}

/* The addresses of a key that `key_of_ends` has made, of so many bytes. */
static inline struct flow flow_of_key(const u8 *key, u32 size)
{
    u32 half = size / 2, bytes = half - 2;
    return (struct flow){load_be_long(key + 1, bytes), load_be_long(key + 1 + half, bytes)};
}

/* Of all fragments of a datagram that enter a port: 1 if that is inside, addresses, protocol, identification. */
static inline void key_of_fragment(struct key *k, const struct packet *p)
{
    const u8 *l3 = p->at + p->l3;
    u8 *at = (u8 *)k->word;
    u32 bytes = p->version == 4 ? 8 : 32, number = p->version == 4 ? 2 : 4;
    key_start(k);
    at[0] = p->port == INSIDE;
    memcpy(at + 1, l3 + (p->version == 4 ? 12 : 8), bytes);
    at[1 + bytes] = (u8)p->protocol;
    memcpy(at + 2 + bytes, l3 + (p->version == 4 ? 4 : 44), number);
    key_end(k, 2 + bytes + number);
}

static inline struct flow flow_of_fragment(const u8 *key, u32 size)
{
    u32 bytes = size < 32 ? 4 : 16;
    u128 source = load_be_long(key + 1, bytes), destination = load_be_long(key + 1 + bytes, bytes);
    return key[0] ? (struct flow){source, destination} : (struct flow){destination, source};
}

/* -- records of fair tables, as they are written ---------------------------------------------------------------- */

static inline void write_key(const struct table *t, const struct entry *e, struct writer *w)
{
    u8 key[KEY_WORDS * 8];
    u32 size = entry_key(t, e, key);
    put_bytes(w, key, size);
}

static inline void read_key(struct key *k, struct reader *r)
{
    u32 size;
    const u8 *at = get_bytes(r, &size, KEY_WORDS * 8 - 1);
    key_start(k);
    if (!at || !size) {
        r->bad = true;
        return;
    }
    memcpy(k->word, at, size);
    key_end(k, size);
}

static inline void write_source(const struct table *t, const struct entry *e, struct writer *w)
{
    const struct share *s = &t->shares[e->share];
    put_bytes(w, &s->source, s->bytes);
}

/* Enter a record that was read; NULL: there is one, or no room. */
static inline struct entry *enter_read(struct table *t, const struct key *k, struct reader *r, bool established,
                                       const char **wrong)
{
    u32 size, hash = key_hash(t, k);
    const u8 *from = get_bytes(r, &size, 8);
    u64 source = 0;
    *wrong = BAD;
    if (r->bad || !from)
        return NULL;
    memcpy(&source, from, size);
    *wrong = "is there already";
    if (table_find(t, k, hash))
        return NULL;
    *wrong = "has no room";
    if (t->counts[COUNTED] >= t->size)
        return NULL;
    return table_enter(t, k, hash, source, size, established);
}

#endif
