/* The ids of one core from memory, in turns with Hyperscan alone on the same bytes.
 *
 * usage: dpdk_ids MEMORY MESSAGES SIGNATURES TEXT CONNECTIONS
 * MEMORY and MESSAGES are as of dpdk_nfs. SIGNATURES are as `signatures_compile` reads them, TEXT is what connections say:
 * segments of PAYLOAD bytes from anywhere in it; for every second one an acknowledgment comes back, 1,024 segments later. Prints
 * nanoseconds of CPU a segment: scanned as streams, and through the engine; then frames in and out.
 */
#include "checksums.h"
#include "engine.h"
#include "tcp_acceptance.h"

#include <hs/hs.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define PAYLOAD 1460
#define HEADERS 54
#define FRAME (HEADROOM + TAG_BYTES + HEADERS + PAYLOAD + SLACK)
#define ROUNDS 7
#define PASSES 6 /* segments of each connection in a round */
#define CHUNK 512 /* connections that send two segments before these are acknowledged */
#define PAYLOAD_AT (HEADROOM + TAG_BYTES + HEADERS)
#define MAX_FLOWS 4096

static u32 flows;
static u8 *frames, *text;
static size_t text_size;
static u32 turn;
static u32 sequence[MAX_FLOWS];
static const u8 head[TAG_BYTES + HEADERS] = {
    0x02, 0, 0, 1, 0, 1, 0x02, 0, 0, 2, 0, 0, 0x89, 0x4F, 0x0F, 0xC6, 0x01, 0x03, 0, 0, 1, 255,
    [38] = 0x06, 0, 0, 0, 0, 1, 0x0A, 0, 0, 0, 0, 0x10, 0x08, 0x00,
    0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 0, 198, 51, 100, 9,
    0x10, 0, 0, 80, [38 + 46] = 0x50, ACK, 0xFF, 0xFF,
};

static double nanoseconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

static u8 *file(const char *path, size_t *size)
{
    FILE *from = fopen(path, "rb");
    u8 *bytes = malloc(64u << 20);
    *size = from && bytes ? fread(bytes, 1, 64u << 20, from) : 0;
    return bytes;
}

static const u8 *said(u32 flow)
{
    return text + (flow * 7919u + turn * 104729u) % (text_size - PAYLOAD);
}

/* A frame of a connection, from inside or as an answer. */
static struct received make(u32 flow, bool inside, u8 flags, u32 seq, u32 ack, u32 size)
{
    u8 *at = frames + (size_t)flow * FRAME + HEADROOM, *l3 = at + TAG_BYTES + 14, *l4 = l3 + 20;
    memcpy(at, head, sizeof head);
    at[20] = inside ? 1 : 2; /* SPI */
    store_be(l3 + 2, 40 + size, 2);
    store_be(l3 + 13, flow, 3);
    if (!inside) {
        u8 address[4], port[2];
        memcpy(address, l3 + 12, 4);
        memcpy(l3 + 12, l3 + 16, 4);
        memcpy(l3 + 16, address, 4);
        memcpy(port, l4, 2);
        memcpy(l4, l4 + 2, 2);
        memcpy(l4 + 2, port, 2);
    }
    store_be(l4 + 4, seq, 4);
    store_be(l4 + 8, ack, 4);
    l4[13] = flags;
    if (size)
        memcpy(l4 + 20, said(flow), size);
    store_be(l3 + 10, 0xFFFF - sum_of_words(l3, 20) % 0xFFFF, 2);
    store_be(l4 + 16, 0xFFFF - (TCP + 20 + size + sum_of_words(l3 + 12, 8) + sum_of_words(l4, 20 + size)) % 0xFFFF, 2);
    return (struct received){0, TAG_BYTES + HEADERS + size, at};
}

static void run(const struct received *all, u32 first, u32 count)
{
    static u64 now_us = 1000000;
    struct sent sent[MOST_SENT];
    for (u32 i = first; i < first + count; i += MOST_FRAMES)
        engine_burst(all + i, MOST_FRAMES, now_us++, sent);
}

static void open_all(struct received *all)
{
    static const struct {
        bool inside;
        u8 flags;
    } steps[] = {{true, SYN}, {false, SYN | ACK}, {true, ACK}};
    for (u32 step = 0; step < 3; step++) {
        for (u32 i = 0; i < flows; i++)
            all[i] = make(i, steps[step].inside, steps[step].flags, step == 2, step > 0, 0);
        run(all, 0, flows);
    }
    for (u32 i = 0; i < flows; i++)
        sequence[i] = 1;
}

static double timed_run(const struct received *all, u32 first)
{
    double before = nanoseconds();
    run(all, first, CHUNK);
    return nanoseconds() - before;
}

/* Of CHUNK connections each, two segments and the acknowledgments. */
static double through_engine(struct received *all)
{
    double took = 0;
    for (u32 pass = 0; pass < PASSES; pass += 2)
        for (u32 first = 0; first < flows; first += CHUNK) {
            for (u32 segment = 0; segment < 2; segment++, turn++) {
                for (u32 i = first; i < first + CHUNK; i++) {
                    all[i] = make(i, true, ACK, sequence[i], 1, PAYLOAD);
                    sequence[i] += PAYLOAD;
                }
                took += timed_run(all, first);
            }
            for (u32 i = first; i < first + CHUNK; i++)
                all[i] = make(i, false, ACK, 1, sequence[i], 0);
            took += timed_run(all, first);
        }
    return took / PASSES / flows;
}

static int ignore(unsigned number, unsigned long long from, unsigned long long to, unsigned flags, void *context)
{
    (void)number, (void)from, (void)to, (void)flags, (void)context;
    return 0;
}

static double scanned(hs_stream_t **streams, hs_scratch_t *scratch)
{
    double took = 0;
    for (u32 pass = 0; pass < PASSES; pass += 2)
        for (u32 first = 0; first < flows; first += CHUNK)
            for (u32 segment = 0; segment < 2; segment++, turn++) {
                for (u32 i = first; i < first + CHUNK; i++) /* the same bytes lie where frames lie */
                    make(i, true, ACK, 0, 1, PAYLOAD);
                double before = nanoseconds();
                for (u32 i = first; i < first + CHUNK; i++)
                    hs_scan_stream(streams[i], (const char *)frames + (size_t)i * FRAME + PAYLOAD_AT, PAYLOAD, 0, scratch,
                                   ignore, NULL);
                took += nanoseconds() - before;
            }
    return took / PASSES / flows;
}

/* Their database for streams. */
static hs_database_t *database_of(const char *path)
{
    size_t size;
    u8 *bytes = file(path, &size);
    struct reader r = {bytes, bytes + size, false};
    u32 count = take_u32(&r);
    const char **content = calloc(count, sizeof *content);
    unsigned *flags = calloc(count, sizeof *flags), *number = calloc(count, sizeof *number);
    size_t *sizes = calloc(count, sizeof *sizes);
    for (u32 i = 0; i < count; i++) {
        number[i] = take_u32(&r);
        flags[i] = take_u32(&r) ? HS_FLAG_CASELESS : 0;
        sizes[i] = take_u32(&r);
        content[i] = (const char *)take(&r, sizes[i]);
    }
    hs_database_t *database = NULL;
    hs_compile_error_t *wrong;
    hs_compile_lit_multi(content, flags, number, sizes, count, HS_MODE_STREAM, NULL, &database, &wrong);
    return database;
}

int main(int count, char **words)
{
    size_t memory_size, size;
    if (count != 6)
        return 2;
    u8 *memory = file(words[1], &memory_size), *messages = file(words[2], &size);
    text = file(words[4], &text_size);
    flows = (u32)strtoul(words[5], NULL, 10);
    frames = calloc(flows, FRAME);
    struct received *all = calloc(flows, sizeof *all);
    hs_stream_t **streams = calloc(flows, sizeof *streams);
    hs_scratch_t *scratch = NULL;
    hs_database_t *database = database_of(words[3]);
    if (!database || hs_alloc_scratch(database, &scratch) != HS_SUCCESS || flows > MAX_FLOWS || flows % CHUNK ||
        !engine_start(0x020000010001, (struct shared){(u64 *)memory, (u32)(memory_size / 8)}))
        return 1;
    for (u32 i = 0; i < flows; i++)
        hs_open_stream(database, 0, &streams[i]);
    struct writer answer = {0};
    for (u8 *at = messages; at < messages + size;) {
        u32 message[3];
        memcpy(message, at, sizeof message);
        struct reader r = {at + sizeof message, at + message[0], false};
        const char *wrong = engine_serve(message[1], message[2], &r, &answer);
        if (wrong) {
            fprintf(stderr, "%s\n", wrong);
            return 1;
        }
        at += message[0];
    }
    open_all(all);
    double least[2] = {1e9, 1e9};
    for (int i = 0; i < ROUNDS; i++) {
        double alone = scanned(streams, scratch), ours = through_engine(all);
        least[0] = alone < least[0] ? alone : least[0];
        least[1] = ours < least[1] ? ours : least[1];
    }
    const u64 *counts = (const u64 *)memory;
    printf("%.1f %.1f %lu %lu\n", least[0], least[1], counts[FRAMES_IN], counts[FRAMES_OUT]);
    return 0;
}
