/*
 * One non-blocking ZeroMQ socket: see zmq_socket.h for the contract, README.md for the settings and their reasons.
 *
 * What this must not know: what is in a frame, who the peers are, event loops.
 *
 * Two facts about libzmq shape this file. A socket learns of new connections, freed queue places and arrived
 * messages by commands in a mailbox; ZMQ_FD says that the mailbox is not empty, not that a message waits, and
 * nearly every call empties it. And calls that send or receive look into the mailbox only now and then
 * (max_command_delay), whereas reading ZMQ_EVENTS always does: so a send that fails is tried once more behind a
 * reading of ZMQ_EVENTS, or it would be refused for a queue that has room.
 */
#include "zmq_socket.h"

#include "../assert.h"

#include <errno.h>
#include <inttypes.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>
#include <zmq.h>

#define TCP_ADDRESS_SIZE_MAX 300u
#define MONITOR_ENDPOINT_SIZE 64u
#define MONITOR_EVENTS (ZMQ_EVENT_HANDSHAKE_SUCCEEDED | ZMQ_EVENT_DISCONNECTED)

/* A connection that was lost this long ago and did not come back is opened anew: see revive(). Longer
 * than ZMQ_CONNECT_TIMEOUT, so that an attempt of libzmq's own can end well. */
#define REVIVE_AFTER_MS 1500

/* Bad messages that one receive skips before it lets the owner do something else. */
#define SKIPPED_MAX 64u

struct zmq_context {
	void *handle;
	uint64_t n_monitors; /* ever opened: names their endpoints */
};

struct zmq_socket {
	enum zmq_socket_kind kind;
	void *handle;
	void *monitor; /* the reading end of the monitor, or NULL */
	int fd;
	int monitor_fd;
	bool link_up;
	int64_t revive_at_ms; /* monotonic clock; 0: the link is up, or never was */
	char *endpoint;
	bool has_received;
	bool has_prepared;
	zmq_msg_t received; /* the payload that the caller looks at, if has_received */
	zmq_msg_t prepared; /* the buffer that the caller fills, if has_prepared */
	uint64_t bad_messages;
};

/* The last error of a call that failed, as a negative errno. */
static int zmq_error(void)
{
	int r = zmq_errno();

	raft_assert(r > 0);
	return -r;
}

int zmq_context_new(struct zmq_context **ret)
{
	struct zmq_context *context = calloc(1, sizeof(*context));

	if (context == NULL)
		return -ENOMEM;
	context->handle = zmq_ctx_new();
	if (context->handle == NULL) {
		int r = zmq_error();
		free(context);
		return r;
	}
	(void)zmq_ctx_set(context->handle, ZMQ_IO_THREADS, 1); /* the default, and these two cannot fail */
	(void)zmq_ctx_set(context->handle, ZMQ_BLOCKY, 0);
	*ret = context;
	return 0;
}

struct zmq_context *zmq_context_free(struct zmq_context *context)
{
	if (context == NULL)
		return NULL;
	while (zmq_ctx_term(context->handle) < 0)
		raft_assert(zmq_errno() == EINTR);
	free(context);
	return NULL;
}

/* Opening ---------------------------------------------------------------------------------------------- */

struct int_option {
	int name;
	int value;
};

/* README.md, "Settings", has the reason for each. ZMQ_HEARTBEAT_* must never be among them. */
static const struct int_option fixed_options[] = {
	{ZMQ_LINGER, 0},
	{ZMQ_IPV6, 1},
	{ZMQ_BACKLOG, 256},
	{ZMQ_RECONNECT_IVL, 20},
	{ZMQ_RECONNECT_IVL_MAX, 500},
	{ZMQ_CONNECT_TIMEOUT, 1000},
	{ZMQ_HANDSHAKE_IVL, 5000},
	{ZMQ_TCP_MAXRT, 5000},
	{ZMQ_TCP_KEEPALIVE, 1},
	{ZMQ_TCP_KEEPALIVE_IDLE, 5},
	{ZMQ_TCP_KEEPALIVE_INTVL, 2},
	{ZMQ_TCP_KEEPALIVE_CNT, 3},
};

/* Nobody answers for this domain, which lets peers of ZMTP 3 in and keeps those of ZMTP 1 and 2 out. With them, libzmq
 * 4.3.4 aborts: a connection that comes while a ROUTER is being closed, and says anything but 0xFF, is enough. */
static const char zap_domain[] = "raft-kv";

static int set_int(void *handle, int name, int value)
{
	return zmq_setsockopt(handle, name, &value, sizeof(value)) < 0 ? zmq_error() : 0;
}

static int set_options(void *handle, const struct zmq_socket_options *options)
{
	int r = 0;

	raft_assert(handle != NULL);
	for (size_t k = 0; k < sizeof(fixed_options) / sizeof(fixed_options[0]) && r == 0; k++)
		r = set_int(handle, fixed_options[k].name, fixed_options[k].value);
	if (r == 0)
		r = set_int(handle, ZMQ_SNDHWM, options->send_queue_frames);
	if (r == 0)
		r = set_int(handle, ZMQ_RCVHWM, options->receive_queue_frames);
	if (r == 0 && options->immediate)
		r = set_int(handle, ZMQ_IMMEDIATE, 1);
	if (r == 0 && options->kind == ZMQ_SOCKET_ROUTER) {
		r = set_int(handle, ZMQ_ROUTER_MANDATORY, 1);
		if (r == 0 && zmq_setsockopt(handle, ZMQ_ZAP_DOMAIN, zap_domain, sizeof(zap_domain) - 1) < 0)
			r = zmq_error();
	}
	if (r == 0 &&
	    zmq_setsockopt(handle, ZMQ_MAXMSGSIZE, &options->frame_size_max, sizeof(options->frame_size_max)) < 0)
		r = zmq_error();
	return r;
}

static int get_fd(void *handle, int *ret_fd)
{
	size_t size = sizeof(*ret_fd);

	return zmq_getsockopt(handle, ZMQ_FD, ret_fd, &size) < 0 ? zmq_error() : 0;
}

/* The monitor reports to an inproc endpoint of its own; a closed socket may hold on to its name for a while, so none
 * is used twice. Must be there before connecting, or the first event is lost. */
static int open_monitor(struct zmq_context *context, struct zmq_socket *socket)
{
	char endpoint[MONITOR_ENDPOINT_SIZE];
	int n = snprintf(endpoint, sizeof(endpoint), "inproc://monitor-%" PRIu64, ++context->n_monitors);

	raft_assert(n > 0 && (size_t)n < sizeof(endpoint));
	if (zmq_socket_monitor(socket->handle, endpoint, MONITOR_EVENTS) < 0)
		return zmq_error();
	socket->monitor = zmq_socket(context->handle, ZMQ_PAIR);
	if (socket->monitor == NULL)
		return zmq_error();
	/* libzmq's I/O thread blocks, and with it all connections, when the monitor's queue is full: no limit. What
	 * gets in is two small events for each reconnection, and those are spaced in time. */
	int r = set_int(socket->monitor, ZMQ_RCVHWM, 0);
	if (r == 0)
		r = set_int(socket->monitor, ZMQ_LINGER, 0);
	if (r == 0 && zmq_connect(socket->monitor, endpoint) < 0)
		r = zmq_error();
	if (r == 0)
		r = get_fd(socket->monitor, &socket->monitor_fd);
	return r;
}

/* libzmq removes whatever is in the way of an ipc endpoint before binding: a socket that another process still
 * serves, or somebody's file. So look first. */
static int check_ipc_path_free(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct stat st;

	raft_assert(strlen(path) < sizeof(address.sun_path));
	memcpy(address.sun_path, path, strlen(path));
	if (lstat(path, &st) < 0)
		return errno == ENOENT ? 0 : -errno;
	if (!S_ISSOCK(st.st_mode))
		return -EEXIST;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	int r = connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0 ? -errno : 0;
	(void)close(fd);	    /* only asked whether somebody listens; nothing to lose */
	if (r == 0 || r == -EAGAIN) /* EAGAIN: its backlog is full */
		return -EADDRINUSE;
	return r == -ECONNREFUSED || r == -ENOENT ? 0 : r;
}

/* host:port. libzmq would take a wrong port for a connection, and fail in the background for ever. */
static int check_tcp_address(const char *address)
{
	const char *colon = strrchr(address, ':');
	unsigned long port = 0;

	if (colon == NULL || colon == address || strlen(address) > TCP_ADDRESS_SIZE_MAX || strchr(address, ';') != NULL)
		return -EINVAL; /* ';' would set a source address */
	size_t digits = strspn(colon + 1, "0123456789");
	if (digits == 0 || digits > 5 || colon[1 + digits] != '\0')
		return -EINVAL;
	for (size_t k = 1; k <= digits; k++)
		port = port * 10 + (unsigned long)(colon[k] - '0');
	return port >= 1 && port <= UINT16_MAX ? 0 : -EINVAL;
}

/* inproc, pgm and the other transports of libzmq are nothing that raft.conf should be able to switch on. */
static int check_endpoint(const char *endpoint, bool bind)
{
	static const char ipc[] = "ipc://", tcp[] = "tcp://";

	if (strncmp(endpoint, tcp, sizeof(tcp) - 1) == 0)
		return check_tcp_address(endpoint + sizeof(tcp) - 1);
	if (strncmp(endpoint, ipc, sizeof(ipc) - 1) != 0)
		return -EPROTONOSUPPORT;
	const char *path = endpoint + sizeof(ipc) - 1;
	if (path[0] != '/') /* '@' (abstract) and '*' (wildcard) have no path that permissions could protect */
		return -EINVAL;
	if (strlen(path) >= sizeof(((struct sockaddr_un *)NULL)->sun_path))
		return -ENAMETOOLONG;
	return bind ? check_ipc_path_free(path) : 0;
}

/* The endpoint with the host's name replaced by its address, as libzmq finds it when it connects: IPv6 before IPv4,
 * and the first of several. 0 or negative errno. */
static int resolve_endpoint(const char *endpoint, int family, char *ret, size_t size)
{
	const char *host = endpoint + sizeof("tcp://") - 1;
	const char *port = strrchr(host, ':') + 1; /* check_tcp_address saw to it that there is one */
	struct addrinfo hints = {.ai_family = family, .ai_socktype = SOCK_STREAM, .ai_flags = AI_V4MAPPED};
	struct addrinfo *found;
	char name[TCP_ADDRESS_SIZE_MAX + 1], address[NI_MAXHOST];

	raft_assert(port - host <= (ptrdiff_t)sizeof(name));
	memcpy(name, host, (size_t)(port - host) - 1);
	name[port - host - 1] = '\0';
	int r = getaddrinfo(name, NULL, &hints, &found);
	if (r != 0)
		return r == EAI_MEMORY ? -ENOMEM : -ENODEV;
	r = getnameinfo(found->ai_addr, found->ai_addrlen, address, sizeof(address), NULL, 0, NI_NUMERICHOST);
	freeaddrinfo(found);
	if (r != 0)
		return -ENODEV;
	static const char mapped[] = "::ffff:";
	const char *digits = address;
	if (strncmp(address, mapped, sizeof(mapped) - 1) == 0)
		digits += sizeof(mapped) - 1;
	bool v6 = strchr(digits, ':') != NULL;
	int n = snprintf(ret, size, v6 ? "tcp://[%s]:%s" : "tcp://%s:%s", digits, port);
	return n > 0 && (size_t)n < size ? 0 : -EINVAL;
}

/* libzmq binds to addresses and to interfaces by their names. A member's endpoint may hold a host's name: the one
 * line in raft.conf says where to listen and where to connect to. */
static int bind_endpoint(void *handle, const char *endpoint)
{
	static const int families[] = {AF_INET6, AF_INET};
	char numeric[TCP_ADDRESS_SIZE_MAX + NI_MAXHOST];

	int r = zmq_bind(handle, endpoint) < 0 ? zmq_error() : 0;
	if (r != -ENODEV)
		return r;
	for (unsigned k = 0; k < 2 && r < 0 && r != -EADDRINUSE; k++) {
		r = resolve_endpoint(endpoint, families[k], numeric, sizeof(numeric));
		if (r == 0 && zmq_bind(handle, numeric) < 0)
			r = zmq_error();
	}
	return r;
}

static int open_handles(struct zmq_context *context, const struct zmq_socket_options *options, const char *endpoint,
			struct zmq_socket *socket)
{
	bool router = options->kind == ZMQ_SOCKET_ROUTER;

	socket->handle = zmq_socket(context->handle, router ? ZMQ_ROUTER : ZMQ_DEALER);
	if (socket->handle == NULL)
		return zmq_error();
	int r = set_options(socket->handle, options);
	if (r == 0)
		r = get_fd(socket->handle, &socket->fd);
	if (r == 0 && options->monitor)
		r = open_monitor(context, socket);
	if (r == 0 && router)
		r = bind_endpoint(socket->handle, endpoint);
	else if (r == 0 && zmq_connect(socket->handle, endpoint) < 0)
		r = zmq_error();
	return r;
}

int zmq_socket_open(struct zmq_context *context, const struct zmq_socket_options *options, const char *endpoint,
		    struct zmq_socket **ret)
{
	raft_assert(context != NULL && options != NULL && endpoint != NULL);
	raft_assert(options->kind == ZMQ_SOCKET_DEALER || !options->monitor); /* of which connection would it speak? */

	int r = check_endpoint(endpoint, options->kind == ZMQ_SOCKET_ROUTER);
	if (r < 0)
		return r;
	struct zmq_socket *socket = calloc(1, sizeof(*socket));
	if (socket == NULL)
		return -ENOMEM;
	socket->kind = options->kind;
	socket->fd = -1;
	socket->monitor_fd = -1;
	socket->endpoint = strdup(endpoint);
	r = socket->endpoint == NULL ? -ENOMEM : open_handles(context, options, endpoint, socket);
	if (r < 0) {
		(void)zmq_socket_free(socket); /* always NULL */
		return r;
	}
	*ret = socket;
	return 0;
}

static void close_handle(void *handle)
{
	int r = zmq_close(handle);

	raft_assert(r == 0); /* it fails only for something that is not a socket */
}

static void drop_received(struct zmq_socket *socket)
{
	if (socket->has_received)
		(void)zmq_msg_close(&socket->received); /* fails only for an invalid message */
	socket->has_received = false;
}

static void drop_prepared(struct zmq_socket *socket)
{
	if (socket->has_prepared)
		(void)zmq_msg_close(&socket->prepared); /* as above */
	socket->has_prepared = false;
}

struct zmq_socket *zmq_socket_free(struct zmq_socket *socket)
{
	if (socket == NULL)
		return NULL;
	drop_received(socket);
	drop_prepared(socket);
	if (socket->monitor != NULL) {
		/* In this order: an event without a reader blocks libzmq's I/O thread. */
		(void)zmq_socket_monitor(socket->handle, NULL, 0); /* switches it off */
		close_handle(socket->monitor);
	}
	if (socket->handle != NULL)
		close_handle(socket->handle);
	free(socket->endpoint);
	free(socket);
	return NULL;
}

static int64_t now_ms(void)
{
	struct timespec now;
	int r = clock_gettime(CLOCK_MONOTONIC, &now);

	raft_assert(r == 0);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* libzmq connects again after errors of the network, but never after one of the protocol: a peer's port on which some
 * other program answered for a while would be lost until this process restarts. It does not tell which of the two it
 * was, so a DEALER that has been without a link for long enough is connected anew by hand; that does no harm to a
 * connection that libzmq is still trying to open. */
static void revive(struct zmq_socket *socket)
{
	if (socket->revive_at_ms == 0 || now_ms() < socket->revive_at_ms)
		return;
	raft_assert(socket->kind == ZMQ_SOCKET_DEALER && !socket->link_up);
	(void)zmq_disconnect(socket->handle, socket->endpoint); /* ENOENT when libzmq forgot it already */
	(void)zmq_connect(socket->handle, socket->endpoint);	/* worked once; if not now, then the next time */
	socket->revive_at_ms = now_ms() + REVIVE_AFTER_MS;
}

/* Waiting ---------------------------------------------------------------------------------------------- */

int zmq_socket_fd(const struct zmq_socket *socket)
{
	raft_assert(socket->fd >= 0);
	return socket->fd;
}

int zmq_socket_monitor_fd(const struct zmq_socket *socket)
{
	raft_assert((socket->monitor_fd >= 0) == (socket->monitor != NULL));
	return socket->monitor_fd;
}

/* Works off the mailbox completely, whatever else; 0 on failure: the next call on the socket meets the error. */
static int read_events(void *handle)
{
	int events;
	size_t size = sizeof(events);

	while (zmq_getsockopt(handle, ZMQ_EVENTS, &events, &size) < 0)
		if (zmq_errno() != EINTR)
			return 0;
	return events;
}

bool zmq_socket_pending(struct zmq_socket *socket)
{
	raft_assert(socket->handle != NULL);
	if ((read_events(socket->handle) & ZMQ_POLLIN) != 0)
		return true;
	return socket->monitor != NULL && (read_events(socket->monitor) & ZMQ_POLLIN) != 0;
}

/* Receiving -------------------------------------------------------------------------------------------- */

/* One part of a message. 1: *part holds it; 0: nothing now; or negative errno. In the last two *part is not to be
 * closed. */
static int receive_part(void *handle, zmq_msg_t *part)
{
	int r;

	(void)zmq_msg_init(part); /* never fails */
	do {
		r = zmq_msg_recv(part, handle, ZMQ_DONTWAIT);
	} while (r < 0 && zmq_errno() == EINTR);
	if (r >= 0)
		return 1;
	r = zmq_error();
	(void)zmq_msg_close(part);
	return r == -EAGAIN ? 0 : r;
}

/* Takes the remaining parts of a message away. They are there: a message arrives whole or not at all. */
static void drain_parts(void *handle)
{
	zmq_msg_t part;
	bool more = true;

	while (more && receive_part(handle, &part) == 1) {
		more = zmq_msg_more(&part) != 0;
		(void)zmq_msg_close(&part);
	}
}

/* The identity that a ROUTER puts in front of each message. 1, 0 or negative errno; *ret_valid: it is one that
 * struct zmq_identity can hold, and a payload follows. */
static int receive_identity(struct zmq_socket *socket, struct zmq_identity *ret_from, bool *ret_valid)
{
	zmq_msg_t part;
	int r = receive_part(socket->handle, &part);

	if (r != 1)
		return r;
	size_t size = zmq_msg_size(&part);
	bool more = zmq_msg_more(&part) != 0;
	bool valid = more && size > 0 && size <= ZMQ_IDENTITY_MAX;
	if (valid) {
		ret_from->size = (uint8_t)size;
		memcpy(ret_from->bytes, zmq_msg_data(&part), size);
	} else if (more) {
		drain_parts(socket->handle);
	}
	(void)zmq_msg_close(&part);
	*ret_valid = valid;
	return 1;
}

/* One message, good or bad. 1: good, in socket->received; 0: nothing now; negative errno. *ret_valid as above. */
static int receive_message(struct zmq_socket *socket, struct zmq_identity *ret_from, bool *ret_valid)
{
	ret_from->size = 0;
	if (socket->kind == ZMQ_SOCKET_ROUTER) {
		int r = receive_identity(socket, ret_from, ret_valid);
		if (r != 1 || !*ret_valid)
			return r;
	}
	int r = receive_part(socket->handle, &socket->received);
	if (r != 1)
		return r;
	*ret_valid = zmq_msg_more(&socket->received) == 0;
	if (*ret_valid) {
		socket->has_received = true;
		return 1;
	}
	(void)zmq_msg_close(&socket->received);
	drain_parts(socket->handle);
	return 1;
}

int zmq_socket_receive(struct zmq_socket *socket, struct zmq_identity *ret_from, const uint8_t **ret_data,
		       size_t *ret_len)
{
	raft_assert(socket->handle != NULL);
	drop_received(socket);
	for (unsigned skipped = 0; skipped < SKIPPED_MAX; skipped++) {
		struct zmq_identity from = {0};
		bool valid = false;
		int r = receive_message(socket, &from, &valid);
		if (r != 1)
			return r;
		if (!valid) {
			socket->bad_messages++;
			continue;
		}
		raft_assert(socket->has_received);
		*ret_from = from;
		*ret_data = zmq_msg_data(&socket->received);
		*ret_len = zmq_msg_size(&socket->received);
		return 1;
	}
	return 0; /* for now: zmq_socket_pending says that there is more */
}

uint64_t zmq_socket_bad_messages(const struct zmq_socket *socket)
{
	return socket->bad_messages;
}

/* Sending ---------------------------------------------------------------------------------------------- */

uint8_t *zmq_socket_prepare(struct zmq_socket *socket, size_t len)
{
	raft_assert(socket->handle != NULL);
	drop_prepared(socket);
	if (zmq_msg_init_size(&socket->prepared, len) < 0)
		return NULL;
	socket->has_prepared = true;
	return zmq_msg_data(&socket->prepared);
}

void zmq_socket_move_prepared(struct zmq_socket *holder, struct zmq_socket *socket)
{
	raft_assert(holder != socket);
	raft_assert(holder->has_prepared);
	drop_prepared(socket);
	(void)zmq_msg_init(&socket->prepared);			  /* never fails */
	(void)zmq_msg_move(&socket->prepared, &holder->prepared); /* fails only for an invalid message */
	socket->has_prepared = true;
	drop_prepared(holder);
}

/* Both parts of a ROUTER's message, or the one of a DEALER's. When the identity was taken, the payload is taken too:
 * libzmq checks the queue with the identity, and drops the payload if the connection ends in between. */
static int try_send(struct zmq_socket *socket, const struct zmq_identity *to)
{
	int r = 0;

	if (socket->kind == ZMQ_SOCKET_ROUTER) {
		do {
			r = zmq_send(socket->handle, to->bytes, to->size, ZMQ_DONTWAIT | ZMQ_SNDMORE);
		} while (r < 0 && zmq_errno() == EINTR);
		if (r < 0)
			return zmq_error();
	}
	do {
		r = zmq_msg_send(&socket->prepared, socket->handle, ZMQ_DONTWAIT);
	} while (r < 0 && zmq_errno() == EINTR);
	return r < 0 ? zmq_error() : 0;
}

int zmq_socket_send_prepared(struct zmq_socket *socket, const struct zmq_identity *to)
{
	raft_assert(socket->has_prepared);
	raft_assert(socket->kind == ZMQ_SOCKET_DEALER || (to != NULL && to->size <= ZMQ_IDENTITY_MAX));

	int r = try_send(socket, to);
	if (r == -EAGAIN || r == -EHOSTUNREACH) {
		(void)read_events(socket->handle); /* for its effect: see the top of this file */
		r = try_send(socket, to);
	}
	drop_prepared(socket); /* a sent one is empty by now */
	if (r == -EAGAIN)
		revive(socket);
	return r;
}

int zmq_socket_send(struct zmq_socket *socket, const struct zmq_identity *to, const uint8_t *data, size_t len)
{
	uint8_t *buf = zmq_socket_prepare(socket, len);

	raft_assert(data != NULL || len == 0);
	if (buf == NULL)
		return -EAGAIN; /* dropped for want of memory: to the caller the same as a full queue */
	if (len > 0)
		memcpy(buf, data, len);
	return zmq_socket_send_prepared(socket, to);
}

/* Connections ------------------------------------------------------------------------------------------ */

/* The next event's number, or 0. Two parts: number (16 bits) and value (32 bits), and the endpoint. */
static unsigned receive_monitor_event(void *monitor)
{
	zmq_msg_t part;
	uint16_t event = 0;

	if (receive_part(monitor, &part) != 1)
		return 0;
	if (zmq_msg_size(&part) >= sizeof(event))
		memcpy(&event, zmq_msg_data(&part), sizeof(event));
	bool more = zmq_msg_more(&part) != 0;
	(void)zmq_msg_close(&part);
	if (more)
		drain_parts(monitor);
	return event;
}

enum zmq_socket_link zmq_socket_link_event(struct zmq_socket *socket)
{
	unsigned event;

	if (socket->monitor == NULL)
		return ZMQ_LINK_NONE;
	while ((event = receive_monitor_event(socket->monitor)) != 0) {
		bool up = event == ZMQ_EVENT_HANDSHAKE_SUCCEEDED;
		socket->revive_at_ms = up ? 0 : now_ms() + REVIVE_AFTER_MS;
		/* DISCONNECTED without a link: something that is no ZeroMQ peer answered there. */
		if (up == socket->link_up)
			continue;
		socket->link_up = up;
		(void)read_events(socket->handle); /* takes the new connection's queue in, or lets the old one go */
		return up ? ZMQ_LINK_UP : ZMQ_LINK_DOWN;
	}
	revive(socket); /* for owners that send only where there is a link */
	return ZMQ_LINK_NONE;
}
