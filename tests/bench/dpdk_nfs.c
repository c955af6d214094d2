/* One core from memory: DPDK's null device to itself, raw and with an engine between, in turns.
 *
 * usage: dpdk_nfs MEMORY MESSAGES FLOWS
 * MEMORY has the words that counters begin with, MESSAGES what a worker has told its process (size, kind, number and
 * payload each), FLOWS source and destination of each, as they are in a header. Prints nanoseconds of CPU a packet: raw, with frames written in the loop, and through the engine.
 */
#include "engine.h"
#include "ports.h"

#include <rte_eal.h>
#include <rte_ethdev.h>
#include <rte_mbuf.h>
#include <stdio.h>
#include <time.h>

#define FRAME (TAG_BYTES + 60)
#define PACKETS (1u << 21) /* of a round */
#define ROUNDS 7

static u16 port;
static u32 flows, next_flow;
static const u8 *ends; /* eight bytes a flow */
static u8 frame[FRAME] = {
    0x02, 0, 0, 1, 0, 1, 0x02, 0, 0, 2, 0, 0, 0x89, 0x4F,                /* to the core's MAC */
    0x0F, 0xC6, 0x01, 0x03, 0, 0, 1, 255,                                /* NSH: TTL 63, SPI 1, SI 255 */
    [38] = 0x06, 0, 0, 0, 0, 1, 0x0A, 0, 0, 0, 0, 0x10, 0x08, 0x00,      /* the inner frame */
    0x45, 0, 0, 46, 0, 0, 0x40, 0, 64, 17, 0, 0, 10, 0, 0, 0, 198, 51, 100, 9, 0x10, 0x00, 0x00, 0x35, 0, 26,
};

static u64 nanoseconds(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (u64)now.tv_sec * 1000000000 + (u64)now.tv_nsec;
}

static void generate(struct rte_mbuf **burst, u32 count)
{
    for (u32 i = 0; i < count; i++) {
        u8 *at = rte_pktmbuf_mtod(burst[i], u8 *);
        memcpy(at, frame, FRAME);
        memcpy(at + TAG_BYTES + 26, ends + 8 * next_flow, 8);
        next_flow = next_flow + 1 == flows ? 0 : next_flow + 1;
    }
}

static u32 through_engine(struct rte_mbuf **burst, u32 count)
{
    struct received frames[BURST];
    struct sent sent[MOST_SENT];
    struct rte_mbuf *out[BURST];
    for (u32 i = 0; i < count; i++)
        frames[i] = (struct received){0, burst[i]->pkt_len, rte_pktmbuf_mtod(burst[i], u8 *)};
    u32 left = engine_burst(frames, count, nanoseconds(CLOCK_MONOTONIC) / 1000, sent);
    for (u32 i = 0; i < left; i++) {
        struct rte_mbuf *m = out[i] = burst[sent[i].index];
        burst[sent[i].index] = NULL;
        if (sent[i].bytes == frames[sent[i].index].bytes && sent[i].size == m->pkt_len)
            continue;
        m->data_off = (u16)(sent[i].bytes - (u8 *)m->buf_addr);
        m->data_len = (u16)sent[i].size;
        m->pkt_len = sent[i].size;
    }
    if (left < count)
        rte_pktmbuf_free_bulk(burst, count);
    memcpy(burst, out, left * sizeof *out);
    return left;
}

enum { RAW, GENERATED, ENGINE, KINDS };

static double round_of(int kind)
{
    struct rte_mbuf *burst[BURST];
    u64 before = nanoseconds(CLOCK_THREAD_CPUTIME_ID);
    for (u32 all = 0; all < PACKETS; all += BURST) {
        u32 count = rte_eth_rx_burst(port, 0, burst, BURST);
        if (kind >= GENERATED)
            generate(burst, count);
        if (kind == ENGINE)
            count = through_engine(burst, count);
        rte_eth_tx_burst(port, 0, burst, (u16)count);
    }
    return (double)(nanoseconds(CLOCK_THREAD_CPUTIME_ID) - before) / PACKETS;
}

static bool start(void)
{
    char *words[] = {"dpdk_nfs", "--no-huge", "-m", "512", "--no-pci", "--no-shconf", "--no-telemetry",
                     "--log-level=*:error", "--vdev=net_null0,size=98", "--force-max-simd-bitwidth=512"};
    struct rte_eth_conf conf = {0};
    if (rte_eal_init(sizeof words / sizeof *words, words) < 0)
        return false;
    struct rte_mempool *pool = rte_pktmbuf_pool_create("frames", 8191, 250, 0, RTE_MBUF_DEFAULT_BUF_SIZE, 0);
    return pool && !rte_eth_dev_get_port_by_name("net_null0", &port) && !rte_eth_dev_configure(port, 1, 1, &conf) &&
           !rte_eth_rx_queue_setup(port, 0, 512, 0, NULL, pool) && !rte_eth_tx_queue_setup(port, 0, 512, 0, NULL) &&
           !rte_eth_dev_start(port);
}

static u8 *file(const char *path, size_t *size)
{
    FILE *from = fopen(path, "rb");
    u8 *bytes = malloc(64u << 20);
    *size = from && bytes ? fread(bytes, 1, 64u << 20, from) : 0;
    return bytes;
}

int main(int count, char **words)
{
    size_t memory_size, size;
    if (count != 4)
        return 2;
    u8 *memory = file(words[1], &memory_size), *messages = file(words[2], &size);
    size_t ends_size;
    ends = file(words[3], &ends_size);
    flows = (u32)(ends_size / 8);
    u32 sum = 0; /* of the IPv4 header; flows change it, and nobody looks */
    for (u32 i = 0; i < 20; i += 2)
        sum += (u32)load_be(frame + TAG_BYTES + 14 + i, 2);
    store_be(frame + TAG_BYTES + 24, ~(sum % 0xFFFF) & 0xFFFF, 2);
    if (!start() || !engine_start(0x020000010001, (struct shared){(u64 *)memory, (u32)(memory_size / 8)}))
        return 1;
    struct writer answer = {0};
    for (u8 *at = messages; at < messages + size;) {
        u32 head[3];
        memcpy(head, at, sizeof head);
        struct reader r = {at + sizeof head, at + head[0], false};
        const char *wrong = engine_serve(head[1], head[2], &r, &answer);
        if (wrong) {
            fprintf(stderr, "%s\n", wrong);
            return 1;
        }
        at += head[0];
    }
    double least[KINDS] = {1e9, 1e9, 1e9};
    for (int i = 0; i < ROUNDS; i++)
        for (int kind = 0; kind < KINDS; kind++) {
            double took = round_of(kind);
            least[kind] = took < least[kind] ? took : least[kind];
        }
    u64 *counts = (u64 *)memory;
    printf("%.2f %.2f %.2f %lu %lu\n", least[RAW], least[GENERATED], least[ENGINE], counts[FRAMES_IN],
           counts[FRAMES_OUT]);
    return 0;
}
