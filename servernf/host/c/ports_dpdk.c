/* Ports by DPDK: AF_PACKET devices on the interfaces of this machine, without huge pages and on no core of
 * their own; or one device of another driver.
 *
 * DPDK's AF_PACKET driver knows no interrupts, and waits for ever for room in a transmit ring, so this asks
 * the sockets behind it: what is there to be received is polled for, and who is owed much gets nothing more.
 */
#define _GNU_SOURCE
#include "ports.h"

#include <errno.h>
#include <linux/if_packet.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_flow.h>
#include <rte_mbuf.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define RING 1024  /* frames of a port's receive and transmit ring */
#define FRAME 2048 /* bytes of a frame in a ring, header included */
#define LONGEST (FRAME - TPACKET2_HDRLEN) /* what the driver gives of a longer one is its beginning */
#define SHORTEST 14 /* what the kernel sends */
#define OWED (512 * 1024) /* bytes of socket memory in the transmit ring: it holds RING of the smallest */
#define MBUFS 4095
#define WAIT_MS 1000

static struct port {
    u32 number;
    u16 device;
    int socket; /* behind it; -1: it has none */
    bool up;
    int wakes; /* the descriptor that a device's frames wake by; -1: none */
    char interface[IFNAMSIZ]; /* "": it is a device */
    u32 queued;
    struct rte_mbuf *queue[BURST];
} ports[MAX_PORTS];
static u32 port_count;
static u16 index_of[1 << 16]; /* by number, + 1 */
static struct rte_mempool *pool;
static u64 drops[DROPS];
static struct rte_mbuf *held[BURST];
static u32 held_count;
static int asker = -1; /* a socket to ask of interfaces by */

/* -- the driver's sockets ------------------------------------------------------------------------------ */

/* The driver lets each port join a fanout group, by a number that two processes easily have in common, and with
 * a flag by which the kernel puts IP fragments together before it hands them on. A port has one queue here, so
 * what it would spread over is itself: the call, which comes to this one first, is not made. */
__attribute__((visibility("default"))) int setsockopt(int fd, int level, int name, const void *value,
                                                      socklen_t size)
{
    if (level == SOL_PACKET && name == PACKET_FANOUT)
        return 0;
    return (int)syscall(SYS_setsockopt, fd, level, name, value, size);
}

/* -- opening --------------------------------------------------------------------------------------- */

static bool says(const char *word, const char *wrong)
{
    fprintf(stderr, "port %s: %s\n", word, wrong);
    return false;
}

static bool read_words(char **words, u32 count)
{
    if (count > MAX_PORTS)
        return says(words[MAX_PORTS], "there are more ports than a device has");
    for (u32 i = 0; i < count; i++) {
        struct port *p = &ports[i];
        char *name;
        unsigned long number = strtoul(words[i], &name, 10);
        if (name == words[i] || *name != '@' || number >= sizeof index_of / sizeof *index_of)
            return says(words[i], "NUMBER@INTERFACE is expected");
        name++;
        if (!*name || strlen(name) >= IFNAMSIZ || strpbrk(name, ",= /"))
            return says(words[i], "no name of an interface that DPDK can be told");
        if (!if_nametoindex(name))
            return says(words[i], "no such interface");
        if (index_of[number])
            return says(words[i], "this port is given twice");
        p->number = (u32)number;
        p->socket = p->wakes = -1;
        strcpy(p->interface, name);
        index_of[number] = (u16)(i + 1);
    }
    port_count = count;
    return true;
}

static void forget_folder(void)
{
    const char *folder = rte_eal_get_runtime_dir();
    char path[4096];
    static const char *const files[] = {"config", "fbarray_memzone", "fbarray_memseg", "mp_socket",
                                        "hugepage_info"};
    for (u32 i = 0; i < sizeof files / sizeof *files; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, files[i]);
        unlink(path);
    }
    rmdir(folder);
}

/* Start EAL with words beside those that all processes have. */
static bool start_dpdk(char **more, u32 more_count)
{
    static char prefix[64];
    char *words[MAX_PORTS + 16];
    int count = 0;
    static const char *const fixed[] = {"process", "--no-telemetry", "--log-level=*:error"};
    if (more_count > MAX_PORTS + 8)
        return says("0", "too many words for EAL");
    snprintf(prefix, sizeof prefix, "--file-prefix=orchestrator-%d", (int)getpid());
    for (u32 i = 0; i < sizeof fixed / sizeof *fixed; i++)
        words[count++] = (char *)(uintptr_t)fixed[i];
    words[count++] = prefix;
    for (u32 i = 0; i < more_count; i++)
        words[count++] = more[i];
    words[count] = NULL;
    cpu_set_t cores;
    bool known = !sched_getaffinity(0, sizeof cores, &cores);
    if (rte_eal_init(count, words) < 0) {
        fprintf(stderr, "DPDK: %s\n", rte_strerror(rte_errno));
        return false;
    }
    forget_folder();
    if (known) /* it has pinned this thread to the first of them, as every other device's */
        sched_setaffinity(0, sizeof cores, &cores);
    pool = rte_pktmbuf_pool_create("frames", MBUFS, 0, 0, RTE_MBUF_DEFAULT_BUF_SIZE, SOCKET_ID_ANY);
    if (!pool)
        fprintf(stderr, "DPDK: frames: %s\n", rte_strerror(rte_errno));
    return pool != NULL;
}

static bool start_on_interfaces(void)
{
    static char devices[MAX_PORTS][128];
    char *words[MAX_PORTS + 8] = {"--no-huge", "-m", "512", "--no-pci", "--no-shconf"};
    u32 count = 5;
    for (u32 i = 0; i < port_count; i++) {
        /* Beside the queueing discipline a frame is beside a link's capacity, and no capture sees it. */
        snprintf(devices[i], sizeof devices[i],
                 "--vdev=net_af_packet%u,iface=%s,framesz=%u,framecnt=%u,blocksz=4096,qdisc_bypass=0", i,
                 ports[i].interface, FRAME, RING);
        words[count++] = devices[i];
    }
    return start_dpdk(words, count);
}

/* The driver's socket on an interface, which it tells nobody of. */
static int socket_of(int interface)
{
    for (int fd = 3; fd < 4096; fd++) {
        struct sockaddr_ll at = {0};
        socklen_t size = sizeof at;
        if (!getsockname(fd, (struct sockaddr *)&at, &size) && at.sll_family == AF_PACKET &&
            at.sll_ifindex == interface)
            return fd;
    }
    return -1;
}

static bool start_port(u32 i)
{
    struct port *p = &ports[i];
    char name[64];
    snprintf(name, sizeof name, "net_af_packet%u", i);
    struct rte_eth_conf conf = {0};
    /* That EAL has started says nothing of its devices. */
    if (rte_eth_dev_get_port_by_name(name, &p->device))
        return says(p->interface, "DPDK's AF_PACKET driver does not open it");
    if (rte_eth_dev_configure(p->device, 1, 1, &conf) ||
        rte_eth_rx_queue_setup(p->device, 0, RING, SOCKET_ID_ANY, NULL, pool) ||
        rte_eth_tx_queue_setup(p->device, 0, RING, SOCKET_ID_ANY, NULL) || rte_eth_dev_start(p->device))
        return says(p->interface, "DPDK does not start it");
    int interface = (int)if_nametoindex(p->interface), yes = 1;
    p->socket = socket_of(interface);
    struct packet_mreq all = {.mr_ifindex = interface, .mr_type = PACKET_MR_PROMISC};
    if (p->socket < 0 ||
        setsockopt(p->socket, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &all, sizeof all) ||
        setsockopt(p->socket, SOL_PACKET, PACKET_IGNORE_OUTGOING, &yes, sizeof yes))
        return says(p->interface, "its socket is not as it should be");
    return true;
}

bool ports_open(char **words, u32 count)
{
    asker = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (!read_words(words, count) || !start_on_interfaces())
        return false;
    for (u32 i = 0; i < count; i++)
        if (!start_port(i))
            return false;
    ports_tick();
    return true;
}

/* -- a device ----------------------------------------------------------------------------------------- */

#define LEAST_MTU 1538 /* of a whole frame with its tag */

/* Frames to the core's MAC come to its queue: by a flow rule, which may leave the tree's octet open, or one for
 * the MAC alone, or one of the device's own MACs. A virtual function gets no others then, and shares its port with other cores. */
static bool steer(const struct port *p, const struct device *device)
{
    struct rte_flow_item_eth to = {0}, mask = {0};
    struct rte_flow_attr ingress = {.ingress = 1};
    struct rte_flow_action_queue queue = {.index = 0};
    struct rte_flow_action actions[] = {{RTE_FLOW_ACTION_TYPE_QUEUE, &queue}, {RTE_FLOW_ACTION_TYPE_END, NULL}};
    struct rte_flow_item pattern[] = {{RTE_FLOW_ITEM_TYPE_ETH, &to, NULL, &mask},
                                      {RTE_FLOW_ITEM_TYPE_END, NULL, NULL, NULL}};
    struct rte_ether_addr own;
    struct rte_flow_error wrong;
    store_be(own.addr_bytes, device->mac, 6);
    for (u32 exact = 0; exact < 2; exact++) {
        u64 asked = exact ? 0xFFFFFFFFFFFF : device->mac_mask;
        store_be(mask.hdr.dst_addr.addr_bytes, asked, 6);
        store_be(to.hdr.dst_addr.addr_bytes, device->mac & asked, 6);
        if (rte_flow_create(p->device, &ingress, pattern, actions, &wrong))
            return true;
    }
    return !rte_eth_dev_default_mac_addr_set(p->device, &own) || !rte_eth_dev_mac_addr_add(p->device, &own, 0);
}

bool ports_open_device(const struct device *device)
{
    struct port *p = &ports[0];
    struct rte_eth_conf conf = {.intr_conf.rxq = !device->polled};
    u16 receives = RING, sends = RING;
    asker = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    p->socket = p->wakes = -1;
    port_count = index_of[0] = 1;
    if (!start_dpdk(device->eal, device->eal_count))
        return false;
    if (rte_eth_dev_get_port_by_name(device->name, &p->device))
        return says(device->name, "DPDK has no such device, or no driver for it");
    if (rte_eth_dev_configure(p->device, 1, 1, &conf))
        return says(device->name, device->polled ? "DPDK does not configure it"
                                                 : "it does not wake who waits for frames: poll it always");
    rte_eth_dev_adjust_nb_rx_tx_desc(p->device, &receives, &sends);
    int wrong = rte_eth_dev_set_mtu(p->device, LEAST_MTU);
    if (wrong && wrong != -ENOTSUP)
        return says(device->name, "it takes no frames of 1,552 bytes (an MTU of 1,538)");
    if (rte_eth_rx_queue_setup(p->device, 0, receives, SOCKET_ID_ANY, NULL, pool) ||
        rte_eth_tx_queue_setup(p->device, 0, sends, SOCKET_ID_ANY, NULL) || rte_eth_dev_start(p->device))
        return says(device->name, "DPDK does not start it");
    if (!device->polled && (p->wakes = rte_eth_dev_rx_intr_ctl_q_get_fd(p->device, 0)) < 0)
        return says(device->name, "it does not wake who waits for frames: poll it always");
    if (!steer(p, device))
        return says(device->name, "it takes neither a flow rule for the core's MAC, nor that as its own");
    ports_tick();
    return true;
}

void ports_close(void)
{
    for (u32 i = 0; i < port_count; i++) {
        rte_pktmbuf_free_bulk(ports[i].queue, ports[i].queued);
        rte_eth_dev_stop(ports[i].device);
        rte_eth_dev_close(ports[i].device);
    }
    rte_pktmbuf_free_bulk(held, held_count);
    rte_eal_cleanup();
    close(asker);
}

u32 ports_count(void)
{
    return port_count;
}

/* -- frames ---------------------------------------------------------------------------------------- */

u32 ports_receive(u32 index, struct received *frames)
{
    struct port *p = &ports[index];
    rte_pktmbuf_free_bulk(held, held_count);
    held_count = rte_eth_rx_burst(p->device, 0, held, BURST);
    u32 count = 0;
    for (u32 i = 0; i < held_count; i++) {
        struct rte_mbuf *m = held[i];
        if (unlikely(m->pkt_len >= LONGEST)) {
            drops[DROP_TOO_LONG]++;
            continue;
        }
        frames[count].port = p->number;
        frames[count].size = m->pkt_len;
        frames[count++].bytes = rte_pktmbuf_mtod(m, u8 *);
    }
    return count;
}

static void lose(struct port *p, u32 from, enum drop why)
{
    rte_pktmbuf_free_bulk(p->queue + from, p->queued - from);
    drops[why] += p->queued - from;
    p->queued = 0;
}

static void flush(struct port *p)
{
    int owed;
    if (!p->queued)
        return;
    if (!p->up) {
        lose(p, 0, DROP_LINK_DOWN);
        return;
    }
    if (p->socket >= 0 && !ioctl(p->socket, SIOCOUTQ, &owed) && owed > OWED) {
        lose(p, 0, DROP_SEND_QUEUE_FULL);
        return;
    }
    lose(p, rte_eth_tx_burst(p->device, 0, p->queue, (u16)p->queued), DROP_SEND_QUEUE_FULL);
}

void ports_flush(void)
{
    for (u32 i = 0; i < port_count; i++)
        flush(&ports[i]);
}

u8 *ports_room(u32 number, u32 size)
{
    u32 index = number < sizeof index_of / sizeof *index_of ? index_of[number] : 0;
    if (!index) {
        drops[DROP_UNKNOWN_PORT]++;
        return NULL;
    }
    struct port *p = &ports[index - 1];
    if (size > LONGEST || size < SHORTEST) {
        drops[size > LONGEST ? DROP_TOO_LONG : DROP_TOO_SHORT]++;
        return NULL;
    }
    if (p->queued == BURST)
        flush(p);
    struct rte_mbuf *m = rte_pktmbuf_alloc(pool);
    if (!m) {
        drops[DROP_SEND_QUEUE_FULL]++;
        return NULL;
    }
    m->data_len = (u16)size;
    m->pkt_len = size;
    p->queue[p->queued++] = m;
    return rte_pktmbuf_mtod(m, u8 *);
}

/* -- waiting --------------------------------------------------------------------------------------- */

void ports_wait(struct pollfd *polled, u32 others)
{
    bool there = false;
    for (u32 i = 0; i < port_count; i++) {
        const struct port *p = &ports[i];
        polled[others + i] = (struct pollfd){.fd = p->wakes < 0 ? p->socket : p->wakes, .events = POLLIN};
        if (p->wakes >= 0) { /* what has come before is told of by nobody */
            rte_eth_dev_rx_intr_enable(p->device, 0);
            there |= rte_eth_rx_queue_count(p->device, 0) > 0;
        }
    }
    int some = poll(polled, others + port_count, there ? 0 : WAIT_MS);
    for (u32 i = 0; i < port_count; i++)
        if (ports[i].wakes >= 0) {
            u64 count;
            rte_eth_dev_rx_intr_disable(ports[i].device, 0);
            if (polled[others + i].revents & POLLIN && read(ports[i].wakes, &count, sizeof count) < 0)
                continue; /* another reason to wake */
        }
    if (some <= 0)
        return;
    for (u32 i = 0; i < port_count; i++)
        if (ports[i].socket >= 0 && polled[others + i].revents & (POLLERR | POLLHUP | POLLNVAL)) {
            /* A link that went down is an error of its socket until that is read. */
            int wrong;
            socklen_t size = sizeof wrong;
            if (getsockopt(ports[i].socket, SOL_SOCKET, SO_ERROR, &wrong, &size))
                ports[i].socket = -1;
        }
}

void ports_tick(void)
{
    for (u32 i = 0; i < port_count; i++) {
        struct ifreq ask = {0};
        struct rte_eth_link link;
        if (!*ports[i].interface) {
            ports[i].up = !rte_eth_link_get_nowait(ports[i].device, &link) && link.link_status;
            continue;
        }
        strcpy(ask.ifr_name, ports[i].interface);
        ports[i].up = !ioctl(asker, SIOCGIFFLAGS, &ask) && (ask.ifr_flags & IFF_UP) &&
                      (ask.ifr_flags & IFF_RUNNING);
    }
}

void ports_drops(u64 *all)
{
    for (u32 i = 0; i < port_count; i++) {
        struct tpacket_stats now;
        struct rte_eth_stats all_of;
        socklen_t size = sizeof now;
        if (!*ports[i].interface) {
            if (!rte_eth_stats_get(ports[i].device, &all_of))
                drops[DROP_RECEIVE_QUEUE_FULL] = all_of.imissed + all_of.rx_nombuf;
            continue;
        }
        if (!getsockopt(ports[i].socket, SOL_PACKET, PACKET_STATISTICS, &now, &size))
            drops[DROP_RECEIVE_QUEUE_FULL] += now.tp_drops; /* reading them sets them to 0 */
    }
    memcpy(all, drops, sizeof drops);
}
