/*
 * Frames over ZeroMQ: one bound ROUTER that only receives, and one DEALER per peer that only sends.
 *
 * Two connections for each pair of members, one in each direction. A frame says itself from whom it is, so no
 * routing ids are set; their handover has races. README.md says more.
 *
 * What this must not know: what is in a frame, Raft, event loops.
 *
 * The descriptor handed out is an epoll descriptor over the ROUTER and the monitors of the DEALERs. A DEALER's own
 * descriptor is not in it: nothing that we want arrives there. ready flags remember what the epoll descriptor said
 * until the socket was drained, because ZeroMQ's descriptors do not repeat themselves.
 */
#include "transport.h"

#include "../assert.h"
#include "wire.h"
#include "zmq_socket.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#define MESSAGE_SIZE 256u /* of ret_message: transport.h */

/* Frames queued to one peer before more are dropped. Raft's window bounds their bytes. */
#define SEND_QUEUE_FRAMES 256
/* Frames queued from one peer before its sender is held up. */
#define RECEIVE_QUEUE_FRAMES 128

/* Peers send nothing on the connections that we opened but the handshake. So little is let in. */
#define DEALER_RECEIVE_FRAMES 1
#define DEALER_FRAME_SIZE_MAX 4096

/* Frames taken in a row before the monitors are looked at again: a flood must not hide that a peer died. */
#define FRAMES_IN_A_ROW 64u

#define ROUTER_TAG UINT32_MAX /* epoll data: this, or the peer's slot */

/* A slot; free while it has no dealer. The slot's number is the tag of its monitor in the epoll descriptor. */
struct peer {
	struct zmq_socket *dealer;
	char endpoint[TRANSPORT_ENDPOINT_MAX + 1];
	bool link_ready;
	struct transport_peer_stats stats; /* its id too */
};

struct zmq_transport {
	struct transport base; /* first: it is what callers hold */
	struct zmq_context *context;
	struct zmq_socket *router;
	int epoll_fd;
	bool router_ready;
	unsigned frames_in_a_row;
	size_t prepared_len;
	bool prepared;
	struct peer peers[TRANSPORT_PEERS_MAX];
};

static struct zmq_transport *from_base(struct transport *base)
{
	raft_assert(base != NULL);
	return (struct zmq_transport *)base;
}

static struct peer *find_peer(struct zmq_transport *transport, uint64_t id)
{
	for (unsigned k = 0; k < TRANSPORT_PEERS_MAX; k++)
		if (transport->peers[k].dealer != NULL && transport->peers[k].stats.id == id)
			return &transport->peers[k];
	return NULL;
}

static void transport_close(struct transport *base)
{
	struct zmq_transport *transport = from_base(base);

	for (unsigned k = 0; k < TRANSPORT_PEERS_MAX; k++)
		transport->peers[k].dealer = zmq_socket_free(transport->peers[k].dealer);
	transport->router = zmq_socket_free(transport->router);
	transport->context = zmq_context_free(transport->context);
	if (transport->epoll_fd >= 0)
		(void)close(transport->epoll_fd); /* holds no data */
	free(transport);
}

/* Sending ---------------------------------------------------------------------------------------------- */

static uint8_t *transport_prepare(struct transport *base, size_t len)
{
	struct zmq_transport *transport = from_base(base);

	raft_assert(len > 0 && len <= WIRE_FRAME_SIZE_MAX);
	/* The ROUTER sends nothing itself; it keeps the buffer until it is known to whom it goes. */
	uint8_t *buf = zmq_socket_prepare(transport->router, len);
	transport->prepared = buf != NULL;
	transport->prepared_len = len;
	return buf;
}

static int transport_send(struct transport *base, uint64_t id)
{
	struct zmq_transport *transport = from_base(base);
	struct peer *peer = find_peer(transport, id);

	raft_assert(transport->prepared);
	transport->prepared = false;
	if (peer == NULL)
		return -EAGAIN; /* nobody's counter; the next prepare drops the buffer */
	zmq_socket_move_prepared(transport->router, peer->dealer);
	if (zmq_socket_send_prepared(peer->dealer, NULL) < 0) {
		peer->stats.dropped_frames++;
		peer->stats.dropped_unconnected += !peer->stats.connected;
		return -EAGAIN;
	}
	peer->stats.sent_frames++;
	peer->stats.sent_bytes += transport->prepared_len;
	return 0;
}

/* Receiving -------------------------------------------------------------------------------------------- */

/* Asks the epoll descriptor which sockets have news. */
static void note_ready(struct zmq_transport *transport)
{
	struct epoll_event events[TRANSPORT_PEERS_MAX + 1];
	int n = epoll_wait(transport->epoll_fd, events, (int)(sizeof(events) / sizeof(events[0])), 0);

	raft_assert(n >= 0 || errno == EINTR); /* EINTR: nothing noted, and the descriptor is still readable */
	for (int k = 0; k < n; k++) {
		uint32_t tag = events[k].data.u32;
		raft_assert(tag == ROUTER_TAG || tag < TRANSPORT_PEERS_MAX);
		if (tag == ROUTER_TAG)
			transport->router_ready = true;
		else
			transport->peers[tag].link_ready = transport->peers[tag].dealer != NULL;
	}
	transport->frames_in_a_row = 0;
}

static bool take_link_event(struct zmq_transport *transport, struct transport_event *ret_event)
{
	for (unsigned k = 0; k < TRANSPORT_PEERS_MAX; k++) {
		struct peer *peer = &transport->peers[k];
		if (!peer->link_ready)
			continue;
		enum zmq_socket_link link = zmq_socket_link_event(peer->dealer);
		if (link == ZMQ_LINK_NONE) {
			peer->link_ready = false;
			continue;
		}
		raft_assert(peer->stats.connected == (link == ZMQ_LINK_DOWN));
		peer->stats.connected = link == ZMQ_LINK_UP;
		*ret_event = (struct transport_event){
			.type = link == ZMQ_LINK_UP ? TRANSPORT_PEER_UP : TRANSPORT_PEER_DOWN,
			.peer = peer->stats.id,
		};
		return true;
	}
	return false;
}

static bool take_frame(struct zmq_transport *transport, struct transport_event *ret_event)
{
	struct zmq_identity from;
	const uint8_t *data;
	size_t len;

	if (!transport->router_ready)
		return false;
	int r = zmq_socket_receive(transport->router, &from, &data, &len);
	raft_assert(r >= 0); /* it fails only after zmq_ctx_term, which close alone calls */
	if (r == 0) {
		/* Drained, or it took a rest from skipping garbage. */
		transport->router_ready = zmq_socket_pending(transport->router);
		return false;
	}
	transport->frames_in_a_row++;
	*ret_event = (struct transport_event){.type = TRANSPORT_FRAME, .data = data, .len = len};
	return true;
}

static bool links_ready(const struct zmq_transport *transport)
{
	for (unsigned k = 0; k < TRANSPORT_PEERS_MAX; k++)
		if (transport->peers[k].link_ready)
			return true;
	return false;
}

/* When this returns 0, every socket that was noted as ready is drained, and the epoll descriptor, which goes by
 * level, tells of the others and of everything new. */
static int transport_receive(struct transport *base, struct transport_event *ret_event)
{
	struct zmq_transport *transport = from_base(base);

	if (transport->frames_in_a_row >= FRAMES_IN_A_ROW || (!transport->router_ready && !links_ready(transport)))
		note_ready(transport);
	return take_link_event(transport, ret_event) || take_frame(transport, ret_event) ? 1 : 0;
}

static int transport_fd(struct transport *base)
{
	return from_base(base)->epoll_fd;
}

static bool transport_pending(struct transport *base)
{
	struct zmq_transport *transport = from_base(base);

	if (transport->router_ready)
		transport->router_ready = zmq_socket_pending(transport->router);
	return transport->router_ready || links_ready(transport);
}

static bool transport_peer_stats(struct transport *base, uint64_t id, struct transport_peer_stats *ret)
{
	const struct peer *peer = find_peer(from_base(base), id);

	if (peer == NULL)
		return false;
	*ret = peer->stats;
	return true;
}

/* Opening ---------------------------------------------------------------------------------------------- */

static int fail(char *ret_message, int r, const char *what, const char *endpoint)
{
	const char *hint = "";

	raft_assert(r < 0);
	if (r == -ENODEV)
		hint = " (the host is no address of this machine, nor a name that leads to one)";
	else if (r == -EPROTONOSUPPORT)
		hint = " (an endpoint begins with tcp:// or ipc:///)";
	else if (r == -EEXIST)
		hint = " (and it is not a socket, so it is left alone)";
	(void)snprintf(ret_message, MESSAGE_SIZE, "cannot %s %.100s: %s%s", what, endpoint, strerror(-r), hint);
	return r;
}

static int watch(struct zmq_transport *transport, int fd, uint32_t tag)
{
	struct epoll_event event = {.events = EPOLLIN, .data.u32 = tag};

	raft_assert(fd >= 0);
	return epoll_ctl(transport->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

static int open_router(struct zmq_transport *transport, const char *endpoint)
{
	const struct zmq_socket_options options = {
		.kind = ZMQ_SOCKET_ROUTER,
		.send_queue_frames = 1, /* never used */
		.receive_queue_frames = RECEIVE_QUEUE_FRAMES,
		.frame_size_max = WIRE_FRAME_SIZE_MAX,
	};
	int r = zmq_socket_open(transport->context, &options, endpoint, &transport->router);

	if (r == 0)
		r = watch(transport, zmq_socket_fd(transport->router), ROUTER_TAG);
	return r;
}

/* Peers ------------------------------------------------------------------------------------------------ */

static struct peer *find_free_slot(struct zmq_transport *transport)
{
	for (unsigned k = 0; k < TRANSPORT_PEERS_MAX; k++)
		if (transport->peers[k].dealer == NULL)
			return &transport->peers[k];
	return NULL;
}

static int open_peer(struct zmq_transport *transport, uint64_t id, const char *endpoint)
{
	const struct zmq_socket_options options = {
		.kind = ZMQ_SOCKET_DEALER,
		.send_queue_frames = SEND_QUEUE_FRAMES,
		.receive_queue_frames = DEALER_RECEIVE_FRAMES,
		.frame_size_max = DEALER_FRAME_SIZE_MAX,
		.immediate = true, /* frames for a member that is away are stale when it comes back */
		.monitor = true,
	};
	struct peer *peer = find_free_slot(transport);
	size_t len = strlen(endpoint);

	if (peer == NULL)
		return -E2BIG;
	if (len > TRANSPORT_ENDPOINT_MAX)
		return -ENAMETOOLONG;
	int r = zmq_socket_open(transport->context, &options, endpoint, &peer->dealer);
	if (r < 0)
		return r;
	peer->stats = (struct transport_peer_stats){.id = id};
	memcpy(peer->endpoint, endpoint, len + 1);
	peer->link_ready = true; /* look once, whatever the descriptor says */
	r = watch(transport, zmq_socket_monitor_fd(peer->dealer), (uint32_t)(peer - transport->peers));
	if (r < 0) {
		peer->link_ready = false;
		peer->dealer = zmq_socket_free(peer->dealer);
	}
	return r;
}

static void transport_remove_peer(struct transport *base, uint64_t id)
{
	struct zmq_transport *transport = from_base(base);
	struct peer *peer = find_peer(transport, id);

	if (peer == NULL)
		return;
	peer->link_ready = false;
	peer->dealer =
		zmq_socket_free(peer->dealer); /* closes the monitor, which leaves the epoll descriptor by that */
}

static int transport_set_peer(struct transport *base, uint64_t id, const char *endpoint)
{
	struct zmq_transport *transport = from_base(base);
	const struct peer *peer = find_peer(transport, id);

	raft_assert(!transport->prepared);
	if (peer != NULL && strcmp(peer->endpoint, endpoint) == 0)
		return 0;
	transport_remove_peer(base, id);
	return open_peer(transport, id, endpoint);
}

static const struct transport_ops zmq_transport_ops = {
	.close = transport_close,
	.prepare = transport_prepare,
	.send = transport_send,
	.receive = transport_receive,
	.fd = transport_fd,
	.pending = transport_pending,
	.peer_stats = transport_peer_stats,
	.set_peer = transport_set_peer,
	.remove_peer = transport_remove_peer,
};

static int open_all(struct zmq_transport *transport, const char *listen, const struct transport_peer *peers,
		    unsigned n_peers, char *ret_message)
{
	transport->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (transport->epoll_fd < 0)
		return fail(ret_message, -errno, "wait for", listen);
	int r = zmq_context_new(&transport->context);
	if (r < 0)
		return fail(ret_message, r, "start ZeroMQ for", listen);
	r = open_router(transport, listen);
	if (r < 0)
		return fail(ret_message, r, "listen on", listen);
	for (unsigned k = 0; k < n_peers; k++) {
		r = find_peer(transport, peers[k].id) != NULL ? -ENOTUNIQ
							      : open_peer(transport, peers[k].id, peers[k].endpoint);
		if (r < 0)
			return fail(ret_message, r, "connect to", peers[k].endpoint);
	}
	return 0;
}

int zmq_transport_open(const char *listen, const struct transport_peer *peers, unsigned n_peers,
		       struct transport **ret_transport, char *ret_message)
{
	raft_assert(listen != NULL && (peers != NULL || n_peers == 0));
	raft_assert(ret_transport != NULL && ret_message != NULL);

	if (n_peers > TRANSPORT_PEERS_MAX)
		return fail(ret_message, -E2BIG, "connect to more peers than there are places, from", listen);
	struct zmq_transport *transport = calloc(1, sizeof(*transport));
	if (transport == NULL)
		return fail(ret_message, -ENOMEM, "listen on", listen);
	transport->base.ops = &zmq_transport_ops;
	transport->epoll_fd = -1;
	transport->router_ready = true; /* look once, whatever the descriptor says */
	int r = open_all(transport, listen, peers, n_peers, ret_message);
	if (r < 0) {
		transport_close(&transport->base);
		return r;
	}
	*ret_transport = &transport->base;
	return 0;
}
