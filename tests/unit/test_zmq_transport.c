/*
 * Members talking over ZeroMQ: frames arrive, links go up and down as processes live and die, nothing blocks, nothing is
 * missed, and what makes libzmq 4.3.4 abort is not done.
 *
 * Peers that are to die are children, forked before this process has any ZeroMQ context: libzmq does not survive a fork,
 * and a child that inherits a connection would keep it open.
 */
#include "daemon/transport/transport.h"
#include "daemon/transport/wire.h"
#include "tests/unit/zmtp_raw.h"

#include <dlfcn.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include <cmocka.h>
#include <zmq.h>

#define DEADLINE_MS 10000
#define MESSAGE_SIZE 256

/* Helpers ---------------------------------------------------------------------------------------------- */

struct member {
	uint64_t id;
	uint16_t port;
	char endpoint[64];
	struct transport *transport;
};

static void member_init(struct member *member, uint64_t id)
{
	member->id = id;
	member->port = free_port(AF_INET);
	snprintf(member->endpoint, sizeof(member->endpoint), "tcp://127.0.0.1:%u", member->port);
	member->transport = NULL;
}

/* Listens as members[self] and connects to the others. */
static int member_open(struct member *members, unsigned n, unsigned self)
{
	struct transport_peer peers[RAFT_MEMBERS_MAX];
	char message[MESSAGE_SIZE];
	unsigned n_peers = 0;
	for (unsigned k = 0; k < n; k++)
		if (k != self)
			peers[n_peers++] = (struct transport_peer){members[k].id, members[k].endpoint};
	return zmq_transport_open(members[self].endpoint, peers, n_peers, &members[self].transport, message);
}

static void member_close(struct member *member)
{
	if (member->transport != NULL)
		member->transport->ops->close(member->transport);
	member->transport = NULL;
}

static int send_bytes(struct transport *transport, uint64_t to, const void *data, size_t len)
{
	uint8_t *buf = transport->ops->prepare(transport, len);
	if (buf == NULL)
		return -ENOMEM;
	memcpy(buf, data, len);
	return transport->ops->send(transport, to);
}

/* Waits for the next event as an event loop does: descriptor and pending, nothing else. */
static bool next_event(struct transport *transport, struct transport_event *ret_event)
{
	int64_t deadline = now_ms() + DEADLINE_MS;
	while (transport->ops->receive(transport, ret_event) == 0) {
		int64_t left = deadline - now_ms();
		if (left <= 0)
			return false;
		if (!transport->ops->pending(transport) && !wait_readable(transport->ops->fd(transport), (int)left))
			return false;
	}
	return true;
}

/* Skips events until one of that type, and of that peer unless it is a frame. */
static void wait_event(struct transport *transport, enum transport_event_type type, uint64_t peer)
{
	struct transport_event event;
	do
		assert_true(next_event(transport, &event));
	while (event.type != type || (type != TRANSPORT_FRAME && event.peer != peer));
}

static void assert_frame(struct transport *transport, const void *data, size_t len)
{
	struct transport_event event;
	do
		assert_true(next_event(transport, &event));
	while (event.type != TRANSPORT_FRAME);
	assert_int_equal(event.len, len);
	assert_memory_equal(event.data, data, len);
}

/* Says data to peer until it echoes them, and nothing else: it may hear us before its own way back is connected. */
static void assert_echo(struct transport *transport, uint64_t peer, const void *data, size_t len)
{
	struct transport_event event;
	int64_t deadline = now_ms() + DEADLINE_MS;
	for (;;) {
		assert_int_equal(send_bytes(transport, peer, data, len), 0);
		int64_t again = now_ms() + 100;
		while (now_ms() < again) {
			if (transport->ops->receive(transport, &event) == 0) {
				(void)wait_readable(transport->ops->fd(transport), 10);
				continue;
			}
			if (event.type != TRANSPORT_FRAME)
				continue;
			assert_int_equal(event.len, len);
			assert_memory_equal(event.data, data, len);
			return;
		}
		assert_true(now_ms() < deadline);
	}
}

static struct transport_peer_stats stats_of(struct transport *transport, uint64_t peer)
{
	struct transport_peer_stats stats;
	assert_true(transport->ops->peer_stats(transport, peer, &stats));
	assert_int_equal(stats.id, peer);
	return stats;
}

static void open_mesh(struct member *members, unsigned n)
{
	for (unsigned k = 0; k < n; k++)
		member_init(&members[k], k + 1);
	for (unsigned k = 0; k < n; k++)
		assert_int_equal(member_open(members, n, k), 0);
	for (unsigned k = 0; k < n; k++)
		for (unsigned up = 0; up < n - 1; up++) {
			struct transport_event event;
			assert_true(next_event(members[k].transport, &event));
			assert_int_equal(event.type, TRANSPORT_PEER_UP);
			assert_int_not_equal(event.peer, members[k].id);
			assert_true(stats_of(members[k].transport, event.peer).connected);
		}
}

static void close_mesh(struct member *members, unsigned n)
{
	for (unsigned k = 0; k < n; k++)
		member_close(&members[k]);
}

/* Children --------------------------------------------------------------------------------------------- */

enum child_duty {
	CHILD_ECHO,  /* sends every frame back */
	CHILD_FLOOD, /* sends frames without end; reports the first that is refused */
};

struct child {
	pid_t pid;
	int start; /* write a byte: open the transport */
	int ready; /* read a byte: done (ECHO: listening; FLOOD: the queues are full) */
};

static void child_serve(struct member *members, unsigned self, enum child_duty duty, int ready)
{
	static const uint8_t filler[20000];
	struct transport *transport = members[self].transport;
	struct transport_event event;
	uint64_t parent = members[0].id;
	unsigned refused = 0;
	if (duty == CHILD_ECHO && write(ready, "r", 1) != 1)
		return;
	for (;;) {
		while (transport->ops->receive(transport, &event) == 1)
			if (event.type == TRANSPORT_FRAME && duty == CHILD_ECHO)
				(void)send_bytes(transport, parent, event.data, event.len);
		if (duty == CHILD_FLOOD && stats_of(transport, parent).connected) {
			if (send_bytes(transport, parent, filler, sizeof(filler)) == 0)
				refused = 0;
			else if (++refused == 20 && write(ready, "r", 1) != 1)
				return;
		}
		if (!transport->ops->pending(transport))
			(void)wait_readable(transport->ops->fd(transport), duty == CHILD_FLOOD && refused == 0 ? 0 : 5);
	}
}

/* members[0] is this process. */
static struct child child_fork(struct member *members, unsigned n, unsigned self, enum child_duty duty)
{
	struct child child;
	int start[2], ready[2];
	char byte;
	assert_int_equal(pipe(start), 0);
	assert_int_equal(pipe(ready), 0);
	child.pid = fork();
	assert_true(child.pid >= 0);
	if (child.pid == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(start[1]);
		close(ready[0]);
		if (read(start[0], &byte, 1) == 1 && member_open(members, n, self) == 0)
			child_serve(members, self, duty, ready[1]);
		_exit(1);
	}
	close(start[0]);
	close(ready[1]);
	child.start = start[1];
	child.ready = ready[0];
	return child;
}

static void child_start(const struct child *child)
{
	assert_int_equal(write(child->start, "s", 1), 1);
}

static void child_wait_ready(const struct child *child)
{
	char byte;
	assert_true(wait_readable(child->ready, DEADLINE_MS));
	assert_int_equal(read(child->ready, &byte, 1), 1);
}

static void child_kill(struct child *child)
{
	assert_int_equal(kill(child->pid, SIGKILL), 0);
	assert_int_equal(waitpid(child->pid, NULL, 0), child->pid);
	close(child->start);
	close(child->ready);
}

/* Every socket that libzmq hands out in this process, so that a test can look at its settings. */

static void *seen_sockets[4096];
static unsigned n_seen_sockets;

void *zmq_socket(void *context, int type)
{
	void *(*real)(void *, int) = NULL;
	void *symbol = dlsym(RTLD_NEXT, "zmq_socket");
	memcpy(&real, &symbol, sizeof(real)); /* C has no cast between the two */
	void *socket = real(context, type);
	if (socket != NULL && n_seen_sockets < sizeof(seen_sockets) / sizeof(seen_sockets[0]))
		seen_sockets[n_seen_sockets++] = socket;
	return socket;
}

/* Frames ----------------------------------------------------------------------------------------------- */

static void test_frames_travel_between_all_members(void **state)
{
	(void)state;
	struct member members[3];
	open_mesh(members, 3);
	for (unsigned from = 0; from < 3; from++)
		for (unsigned to = 0; to < 3; to++) {
			if (from == to)
				continue;
			char text[32];
			int len = snprintf(text, sizeof(text), "%u to %u", from, to);
			assert_int_equal(send_bytes(members[from].transport, members[to].id, text, (size_t)len), 0);
			assert_frame(members[to].transport, text, (size_t)len);
			struct transport_peer_stats stats = stats_of(members[from].transport, members[to].id);
			assert_true(stats.sent_frames == 1 && stats.sent_bytes == (uint64_t)len);
			assert_true(stats.dropped_frames == 0 && stats.connected);
		}
	close_mesh(members, 3);
}

static void test_the_largest_frame_arrives(void **state)
{
	(void)state;
	struct member members[2];
	open_mesh(members, 2);
	uint8_t *data = malloc(WIRE_FRAME_SIZE_MAX);
	assert_non_null(data);
	for (size_t k = 0; k < WIRE_FRAME_SIZE_MAX; k++)
		data[k] = (uint8_t)(k * 31 >> 3);
	assert_int_equal(send_bytes(members[0].transport, 2, data, WIRE_FRAME_SIZE_MAX), 0);
	assert_frame(members[1].transport, data, WIRE_FRAME_SIZE_MAX);
	free(data);
	close_mesh(members, 2);
}

static void test_ipc_endpoints_work(void **state)
{
	(void)state;
	char folder[] = "/tmp/raft-kv-test-XXXXXX";
	assert_non_null(mkdtemp(folder));
	struct member members[2] = {{.id = 1}, {.id = 2}};
	for (unsigned k = 0; k < 2; k++)
		snprintf(members[k].endpoint, sizeof(members[k].endpoint), "ipc://%s/%u", folder, k);
	for (unsigned k = 0; k < 2; k++)
		assert_int_equal(member_open(members, 2, k), 0);
	wait_event(members[0].transport, TRANSPORT_PEER_UP, 2);
	assert_int_equal(send_bytes(members[0].transport, 2, "local", 5), 0);
	assert_frame(members[1].transport, "local", 5);
	member_close(&members[1]);
	wait_event(members[0].transport, TRANSPORT_PEER_DOWN, 2);
	member_close(&members[0]);
	for (unsigned k = 0; k < 2; k++)
		(void)unlink(members[k].endpoint + strlen("ipc://"));
	assert_int_equal(rmdir(folder), 0);
}

static void test_a_frame_for_nobody_is_dropped(void **state)
{
	(void)state;
	struct member alone;
	struct transport_peer_stats stats;
	struct transport_event event;
	member_init(&alone, 1);
	assert_int_equal(member_open(&alone, 1, 0), 0);
	assert_int_equal(send_bytes(alone.transport, 99, "x", 1), -EAGAIN);
	assert_false(alone.transport->ops->peer_stats(alone.transport, 99, &stats));
	assert_non_null(alone.transport->ops->prepare(alone.transport, 1000)); /* and never sent */
	assert_non_null(alone.transport->ops->prepare(alone.transport, 10));
	assert_int_equal(alone.transport->ops->receive(alone.transport, &event), 0);
	member_close(&alone);
}

/* Waking up -------------------------------------------------------------------------------------------- */

static void test_no_wake_up_is_missed_in_thousands_of_rounds(void **state)
{
	(void)state;
	struct member members[2];
	open_mesh(members, 2);
	for (uint32_t round = 0; round < 4000; round++) {
		unsigned from = round % 2;
		for (uint32_t k = 0; k < round % 3 + 1; k++)
			assert_int_equal(send_bytes(members[from].transport, members[1 - from].id, &round, 4), 0);
		for (uint32_t k = 0; k < round % 3 + 1; k++)
			assert_frame(members[1 - from].transport, &round, 4); /* stops draining after the last */
	}
	close_mesh(members, 2);
}

static void test_the_descriptor_rests_when_nothing_happens(void **state)
{
	(void)state;
	struct member members[3];
	struct transport_event event;
	open_mesh(members, 3);
	for (unsigned k = 0; k < 3; k++) {
		struct transport *transport = members[k].transport;
		assert_int_equal(send_bytes(transport, members[(k + 1) % 3].id, "x", 1), 0);
		assert_frame(members[(k + 1) % 3].transport, "x", 1);
	}
	for (unsigned k = 0; k < 3; k++) {
		struct transport *transport = members[k].transport;
		/* What belongs to the connections themselves may wake us, but not for ever. */
		int64_t deadline = now_ms() + DEADLINE_MS;
		do {
			assert_true(now_ms() < deadline);
			assert_int_equal(transport->ops->receive(transport, &event), 0);
		} while (wait_readable(transport->ops->fd(transport), 30));
		assert_false(transport->ops->pending(transport));
	}
	close_mesh(members, 3);
}

static void test_whoever_stops_draining_is_told_that_more_is_pending(void **state)
{
	(void)state;
	struct member members[2];
	struct transport_event event;
	open_mesh(members, 2);
	for (unsigned k = 0; k < 100; k++)
		assert_int_equal(send_bytes(members[0].transport, 2, "x", 1), 0);
	for (unsigned k = 0; k < 100; k++) {
		if (!members[1].transport->ops->pending(members[1].transport))
			assert_true(wait_readable(members[1].transport->ops->fd(members[1].transport), DEADLINE_MS));
		while (members[1].transport->ops->receive(members[1].transport, &event) == 0)
			assert_true(wait_readable(members[1].transport->ops->fd(members[1].transport), DEADLINE_MS));
		assert_int_equal(event.type, TRANSPORT_FRAME);
	}
	assert_false(members[1].transport->ops->pending(members[1].transport));
	close_mesh(members, 2);
}

static void test_a_flood_of_frames_does_not_hide_that_a_peer_is_gone(void **state)
{
	(void)state;
	struct member members[3];
	struct transport_event event;
	open_mesh(members, 3);
	for (unsigned k = 0; k < 1000; k++) /* more than one queue holds, so that ours is never empty */
		(void)send_bytes(members[1].transport, 1, "flood", 5);
	wait_event(members[0].transport, TRANSPORT_FRAME, 0);
	member_close(&members[2]);
	wait_event(members[1].transport, TRANSPORT_PEER_DOWN, 3); /* then ours is due too */
	unsigned received = 0;
	do {
		for (unsigned k = 0; k < 50; k++) /* so much slower do we take than they come */
			(void)send_bytes(members[1].transport, 1, "flood", 5);
		if (members[0].transport->ops->receive(members[0].transport, &event) == 0)
			event.type = TRANSPORT_FRAME;
		assert_true(++received < 2000); /* it takes 64, unless the machine is very busy */
	} while (event.type != TRANSPORT_PEER_DOWN);
	assert_int_equal(event.peer, 3);
	close_mesh(members, 3);
}

/* Life and death --------------------------------------------------------------------------------------- */

static void test_a_killed_process_is_noticed_at_once_and_its_successor_too(void **state)
{
	(void)state;
	struct member members[2];
	member_init(&members[0], 1);
	member_init(&members[1], 2);
	struct child first = child_fork(members, 2, 1, CHILD_ECHO);
	struct child second = child_fork(members, 2, 1, CHILD_ECHO);
	assert_int_equal(member_open(members, 2, 0), 0);
	struct transport *transport = members[0].transport;
	assert_int_equal(send_bytes(transport, 2, "early", 5), -EAGAIN); /* not connected yet */
	assert_false(stats_of(transport, 2).connected);

	child_start(&first);
	wait_event(transport, TRANSPORT_PEER_UP, 2);
	assert_echo(transport, 2, "hello", 5);
	int64_t killed_at = now_ms();
	child_kill(&first);
	wait_event(transport, TRANSPORT_PEER_DOWN, 2);
	assert_true(now_ms() - killed_at < 1000);
	assert_false(stats_of(transport, 2).connected);

	/* libzmq reports the end before it takes the queue away: the first frames may vanish there. */
	int64_t began = now_ms();
	while (send_bytes(transport, 2, "nobody hears", 12) == 0)
		assert_true(now_ms() - began < 1000);
	uint64_t dropped = stats_of(transport, 2).dropped_frames;
	for (unsigned k = 0; k < 1000; k++)
		assert_int_equal(send_bytes(transport, 2, "nobody hears", 12), -EAGAIN);
	assert_true(now_ms() - began < 1000);
	assert_true(stats_of(transport, 2).dropped_frames == dropped + 1000);

	child_start(&second);
	wait_event(transport, TRANSPORT_PEER_UP, 2);
	assert_echo(transport, 2, "hello again", 11); /* and nothing of what was dropped */
	child_kill(&second);
	member_close(&members[0]);
}

static void test_a_stopped_process_blocks_nobody_and_fills_a_bounded_queue(void **state)
{
	(void)state;
	static const uint8_t frame[50000];
	struct member members[2];
	member_init(&members[0], 1);
	member_init(&members[1], 2);
	struct child child = child_fork(members, 2, 1, CHILD_ECHO);
	assert_int_equal(member_open(members, 2, 0), 0);
	struct transport *transport = members[0].transport;
	child_start(&child);
	wait_event(transport, TRANSPORT_PEER_UP, 2);
	assert_int_equal(kill(child.pid, SIGSTOP), 0);
	int64_t began = now_ms();
	unsigned refused_in_a_row = 0;
	while (refused_in_a_row < 500) {
		int r = send_bytes(transport, 2, frame, sizeof(frame));
		assert_true(r == 0 || r == -EAGAIN);
		refused_in_a_row = r == 0 ? 0 : refused_in_a_row + 1;
		/* 256 queued, and what the kernel's buffers take: some megabytes. */
		assert_true(stats_of(transport, 2).sent_frames < 1000);
		assert_true(now_ms() - began < DEADLINE_MS);
	}
	assert_true(stats_of(transport, 2).sent_frames >= 256);
	assert_int_equal(kill(child.pid, SIGCONT), 0);
	assert_frame(transport, frame, sizeof(frame));
	child_kill(&child);
	wait_event(transport, TRANSPORT_PEER_DOWN, 2);
	member_close(&members[0]);
}

/* TRAPS: a reader that stalls, whose peer dies with the queues full. With ZeroMQ's heartbeats on, libzmq 4.3.4 aborts
 * here (stream_engine_base.cpp, !_io_error). */
static void test_a_stalled_reader_survives_the_death_of_a_flooding_peer(void **state)
{
	(void)state;
	struct member members[3];
	struct transport_event event;
	for (unsigned k = 0; k < 3; k++)
		member_init(&members[k], k + 1);
	struct child flood = child_fork(members, 3, 1, CHILD_FLOOD);
	struct child echo = child_fork(members, 3, 2, CHILD_ECHO);
	assert_int_equal(member_open(members, 3, 0), 0);
	struct transport *transport = members[0].transport;
	child_start(&flood);
	child_wait_ready(&flood); /* everything between us is full */
	child_kill(&flood);

	/* We go on without reading: another peer comes, and we send to it. */
	child_start(&echo);
	child_wait_ready(&echo);
	int64_t deadline = now_ms() + DEADLINE_MS;
	while (send_bytes(transport, 3, "still here", 10) != 0)
		assert_true(now_ms() < deadline);

	unsigned frames = 0, downs = 0;
	bool echoed = false;
	while (!echoed || downs == 0 || frames < 100) { /* what had arrived before it died is not lost */
		assert_true(next_event(transport, &event));
		downs += event.type == TRANSPORT_PEER_DOWN && event.peer == 2;
		echoed = echoed || (event.type == TRANSPORT_FRAME && event.len == 10);
		frames += event.type == TRANSPORT_FRAME && event.len == 20000;
	}
	child_kill(&echo);
	member_close(&members[0]);
}

/* The same by a stranger who also asks for heartbeats (a PING with a time to live of 100 ms). */
static void test_a_stalled_reader_survives_a_dying_stranger_with_heartbeats(void **state)
{
	(void)state;
	static const uint8_t ping[] = {4, 'P', 'I', 'N', 'G', 0, 1, 'c'};
	static const uint8_t filler[20000];
	struct member members[2];
	struct linger hard = {.l_onoff = 1, .l_linger = 0};
	open_mesh(members, 2);
	for (unsigned n = 0; n < 3; n++) {
		int fd = raw_connect(members[0].port);
		assert_true(raw_handshake(fd, NULL, 0));
		assert_true(raw_frame(fd, ZMTP_COMMAND, ping, sizeof(ping)));
		struct timeval limit = {.tv_usec = 200000}; /* twice the time to live */
		(void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
		while (raw_frame(fd, 0, filler, sizeof(filler)))
			;
		(void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard)); /* with a reset */
		close(fd);
	}
	assert_int_equal(send_bytes(members[1].transport, 1, "alive", 5), 0);
	struct transport_event event;
	unsigned frames = 0;
	bool alive = false;
	while (!alive || frames < 100) {
		assert_true(next_event(members[0].transport, &event));
		assert_int_equal(event.type, TRANSPORT_FRAME);
		alive = alive || event.len == 5;
		frames += event.len == sizeof(filler);
	}
	close_mesh(members, 2);
}

static void test_zeromq_heartbeats_are_off_on_every_socket(void **state)
{
	(void)state;
	struct member members[3];
	n_seen_sockets = 0;
	open_mesh(members, 3);
	assert_int_equal(n_seen_sockets, 3 + 3 * 6); /* ROUTERs; DEALERs, each with both ends of its monitor */
	for (unsigned k = 0; k < n_seen_sockets; k++) {
		static const int names[] = {ZMQ_HEARTBEAT_IVL, ZMQ_HEARTBEAT_TTL};
		for (unsigned n = 0; n < 2; n++) {
			int value = -1;
			size_t size = sizeof(value);
			assert_int_equal(zmq_getsockopt(seen_sockets[k], names[n], &value, &size), 0);
			assert_int_equal(value, 0);
		}
	}
	close_mesh(members, 3);
}

/* Opening ---------------------------------------------------------------------------------------------- */

static void assert_open_fails(const char *listen, const struct transport_peer *peers, unsigned n, int expected,
			      const char *named)
{
	struct transport *transport = NULL;
	char message[MESSAGE_SIZE];
	memset(message, 'x', sizeof(message));
	assert_int_equal(zmq_transport_open(listen, peers, n, &transport, message), expected);
	assert_null(transport);
	assert_non_null(memchr(message, 0, sizeof(message)));
	if (strstr(message, named) == NULL)
		fail_msg("'%s' does not name '%s'", message, named);
}

static void test_a_failure_names_the_endpoint(void **state)
{
	(void)state;
	struct member members[2];
	open_mesh(members, 2);
	char fresh[64], longest[400] = "tcp://";
	snprintf(fresh, sizeof(fresh), "tcp://127.0.0.1:%u", free_port(AF_INET));
	memset(longest + 6, 'h', sizeof(longest) - 7);
	const struct transport_peer bad = {2, "tcp://nobody"}, ok = {3, members[1].endpoint}, twice[2] = {ok, ok};
	struct transport_peer many[TRANSPORT_PEERS_MAX + 1];
	for (unsigned k = 0; k <= TRANSPORT_PEERS_MAX; k++)
		many[k] = (struct transport_peer){k + 1, members[1].endpoint};
	assert_open_fails(members[0].endpoint, NULL, 0, -EADDRINUSE, members[0].endpoint);
	assert_open_fails("udp://x:1", NULL, 0, -EPROTONOSUPPORT, "udp://x:1");
	assert_open_fails(longest, NULL, 0, -EINVAL, "tcp://hhh");
	assert_open_fails(fresh, &bad, 1, -EINVAL, "tcp://nobody");
	assert_open_fails(fresh, twice, 2, -ENOTUNIQ, members[1].endpoint);
	assert_open_fails(fresh, many, TRANSPORT_PEERS_MAX + 1, -E2BIG, fresh);
	close_mesh(members, 2);
}

/* Membership changes ----------------------------------------------------------------------------------- */

static void test_peers_can_come_move_and_go(void **state)
{
	(void)state;
	struct member members[3];
	for (unsigned k = 0; k < 3; k++) {
		member_init(&members[k], k + 1);
		assert_int_equal(member_open(&members[k], 1, 0), 0); /* everybody alone */
	}
	struct transport *first = members[0].transport;
	assert_int_equal(send_bytes(first, 2, "lost", 4), -EAGAIN);

	assert_int_equal(first->ops->set_peer(first, 2, members[1].endpoint), 0);
	wait_event(first, TRANSPORT_PEER_UP, 2);
	assert_int_equal(send_bytes(first, 2, "hello", 5), 0);
	assert_frame(members[1].transport, "hello", 5);
	assert_int_equal(first->ops->set_peer(first, 2, members[1].endpoint), 0); /* nothing new: nothing happens */
	assert_true(stats_of(first, 2).connected);
	assert_int_equal(stats_of(first, 2).sent_frames, 1);

	/* Member 2 moves to where the third one listens. */
	assert_int_equal(first->ops->set_peer(first, 2, members[2].endpoint), 0);
	assert_false(stats_of(first, 2).connected);
	wait_event(first, TRANSPORT_PEER_UP, 2);
	assert_int_equal(send_bytes(first, 2, "moved", 5), 0);
	assert_frame(members[2].transport, "moved", 5);

	first->ops->remove_peer(first, 2);
	first->ops->remove_peer(first, 2); /* unknown by now */
	struct transport_peer_stats stats;
	assert_false(first->ops->peer_stats(first, 2, &stats));
	assert_int_equal(send_bytes(first, 2, "lost", 4), -EAGAIN);
	assert_int_equal(first->ops->set_peer(first, 3, "nonsense"), -EPROTONOSUPPORT);
	close_mesh(members, 3);
}

static void test_slots_of_removed_peers_are_used_again(void **state)
{
	(void)state;
	struct member members[2];
	for (unsigned k = 0; k < 2; k++) {
		member_init(&members[k], k + 1);
		assert_int_equal(member_open(&members[k], 1, 0), 0);
	}
	struct transport *first = members[0].transport;
	for (uint64_t id = 10; id < 10 + 3 * RAFT_MEMBERS_MAX; id++) {
		assert_int_equal(first->ops->set_peer(first, id, members[1].endpoint), 0);
		wait_event(first, TRANSPORT_PEER_UP, id);
		first->ops->remove_peer(first, id);
	}
	/* Members of a configuration, as many others of a file, and one more. */
	for (uint64_t id = 100; id <= 100 + 2 * RAFT_MEMBERS_MAX; id++)
		assert_int_equal(first->ops->set_peer(first, id, members[1].endpoint), 0);
	assert_int_equal(first->ops->set_peer(first, 200, members[1].endpoint), -E2BIG);
	close_mesh(members, 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		/* The first four fork: no context may be open. */
		cmocka_unit_test(test_a_killed_process_is_noticed_at_once_and_its_successor_too),
		cmocka_unit_test(test_a_stopped_process_blocks_nobody_and_fills_a_bounded_queue),
		cmocka_unit_test(test_a_stalled_reader_survives_the_death_of_a_flooding_peer),
		cmocka_unit_test(test_a_stalled_reader_survives_a_dying_stranger_with_heartbeats),
		cmocka_unit_test(test_zeromq_heartbeats_are_off_on_every_socket),
		cmocka_unit_test(test_frames_travel_between_all_members),
		cmocka_unit_test(test_the_largest_frame_arrives),
		cmocka_unit_test(test_ipc_endpoints_work),
		cmocka_unit_test(test_a_frame_for_nobody_is_dropped),
		cmocka_unit_test(test_no_wake_up_is_missed_in_thousands_of_rounds),
		cmocka_unit_test(test_the_descriptor_rests_when_nothing_happens),
		cmocka_unit_test(test_whoever_stops_draining_is_told_that_more_is_pending),
		cmocka_unit_test(test_a_flood_of_frames_does_not_hide_that_a_peer_is_gone),
		cmocka_unit_test(test_a_failure_names_the_endpoint),
		cmocka_unit_test(test_peers_can_come_move_and_go),
		cmocka_unit_test(test_slots_of_removed_peers_are_used_again),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
