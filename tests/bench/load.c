/*
 * The loop: keeps `depth` operations under way on every connection. One read and one write a connection and turn, however
 * many replies and requests they carry; the clock is read once after each read.
 */
#include "tests/bench/load.h"

#include "daemon/assert.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#define INPUT_SIZE (256u * 1024u)
#define EVENTS_MAX 256
#define CONNECT_TIMEOUT_S 10
/* After the measurement, for the replies that are still under way. */
#define DRAIN_NS 15000000000u

static double own_cpu_us(void)
{
	struct rusage usage = {0};
	(void)getrusage(RUSAGE_SELF, &usage); /* cannot fail for oneself */
	return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1e6 +
	       (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
}

/* Operations ------------------------------------------------------------------------------------------ */

uint8_t *load_reserve(struct connection *connection, size_t size)
{
	raft_assert(connection->out_size <= connection->out_capacity);
	if (connection->out_capacity - connection->out_size < size) {
		size_t capacity = connection->out_capacity == 0 ? 1024 : connection->out_capacity;
		while (capacity - connection->out_size < size)
			capacity *= 2;
		uint8_t *out = realloc(connection->out, capacity);
		if (out == NULL)
			return NULL;
		connection->out = out;
		connection->out_capacity = capacity;
	}
	return connection->out + connection->out_size;
}

static void note_error(struct load *load, const uint8_t *text, size_t size)
{
	struct bench_result *result = load->result;
	result->errors++;
	if (result->first_error[0] != '\0')
		return;
	if (size >= sizeof result->first_error)
		size = sizeof result->first_error - 1;
	memcpy(result->first_error, text, size);
}

void load_complete(struct load *load, struct connection *connection, struct slot *slot, enum outcome outcome,
		   const uint8_t *text, size_t size)
{
	struct bench_result *result = load->result;
	raft_assert(connection->outstanding > 0 && load->outstanding > 0);
	connection->outstanding--;
	load->outstanding--;
	result->total_ops++;
	if (outcome == OUTCOME_ERROR) {
		note_error(load, text, size); /* during warm-up and drain, too: a run with errors is no good run */
		return;
	}
	if (!load->measuring)
		return;
	uint64_t ns = load->now_ns - slot->started_ns;
	if (slot->get) {
		result->gets++;
		result->not_found += outcome == OUTCOME_NOT_FOUND ? 1 : 0;
		histogram_record(&result->get_ns, ns);
	} else {
		result->puts++;
		histogram_record(&result->put_ns, ns);
	}
}

/* Connections ----------------------------------------------------------------------------------------- */

static void close_connection(struct load *load, struct connection *connection, const char *why)
{
	if (load->issuing || connection->outstanding > 0)
		note_error(load, (const uint8_t *)why, strlen(why));
	(void)close(connection->fd); /* nothing is owed */
	connection->fd = -1;
	load->outstanding -= connection->outstanding;
	load->result->unanswered += connection->outstanding;
	connection->outstanding = 0;
	load->n_open--;
}

static bool may_issue(const struct load *load, const struct connection *connection)
{
	if (!load->issuing || connection->outstanding == load->options->depth)
		return false;
	return load->options->ops == 0 || load->issued < load->options->ops;
}

static int fill(struct load *load, struct connection *connection)
{
	while (may_issue(load, connection)) {
		struct workload_op op;
		workload_next(&load->workload, &op);
		int r = load->protocol->request(load, connection, &op);
		if (r <= 0)
			return r;
		connection->outstanding++;
		load->outstanding++;
		load->issued += load->measuring ? 1 : 0;
	}
	return 0;
}

static void watch(struct load *load, struct connection *connection, int operation)
{
	struct epoll_event event = {.events = EPOLLIN, .data.ptr = connection};
	if (connection->waits_for_room)
		event.events |= EPOLLOUT;
	int r = epoll_ctl(load->epoll, operation, connection->fd, &event);
	raft_assert(r == 0);
}

static void flush(struct load *load, struct connection *connection)
{
	size_t left = connection->out_size - connection->out_sent;
	if (left > 0) {
		ssize_t n = send(connection->fd, connection->out + connection->out_sent, left, MSG_NOSIGNAL);
		if (n < 0 && errno != EAGAIN && errno != EINTR) {
			close_connection(load, connection, "the server closed a connection");
			return;
		}
		if (n > 0)
			connection->out_sent += (size_t)n;
	}
	bool waits = connection->out_sent < connection->out_size;
	if (!waits)
		connection->out_sent = connection->out_size = 0;
	if (waits != connection->waits_for_room) {
		connection->waits_for_room = waits;
		watch(load, connection, EPOLL_CTL_MOD);
	}
}

/* One read, one write. 0 or negative errno. */
static int serve(struct load *load, struct connection *connection, uint32_t events)
{
	if ((events & ~(uint32_t)EPOLLOUT) != 0) {
		ssize_t n = recv(connection->fd, load->input, INPUT_SIZE, 0);
		load->now_ns = bench_now_ns();
		if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
			close_connection(load, connection, "the server closed a connection");
			return 0;
		}
		int r = n > 0 ? load->protocol->receive(load, connection, load->input, (size_t)n) : 0;
		if (r < 0)
			return r;
	}
	/* What could not be sent yet stays at the front of the buffer: no more is added before it is gone. */
	int r = connection->waits_for_room ? 0 : fill(load, connection);
	flush(load, connection);
	return r;
}

static int connect_unix(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct timeval timeout = {.tv_sec = CONNECT_TIMEOUT_S};
	if (strlen(path) >= sizeof address.sun_path)
		return -ENAMETOOLONG;
	memcpy(address.sun_path, path, strlen(path));
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	/* connect waits while the listener's backlog is full, but not for ever */
	(void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof timeout);
	if (connect(fd, (struct sockaddr *)&address, sizeof address) < 0) {
		int error = errno;
		(void)close(fd);
		return -error;
	}
	return fd;
}

static int connect_tcp(const char *endpoint)
{
	char host[256];
	const char *colon = strrchr(endpoint, ':');
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
	struct addrinfo *list;
	if (colon == NULL || (size_t)(colon - endpoint) >= sizeof host)
		return -EINVAL;
	memcpy(host, endpoint, (size_t)(colon - endpoint));
	host[colon - endpoint] = '\0';
	if (getaddrinfo(host, colon + 1, &hints, &list) != 0)
		return -EADDRNOTAVAIL;
	int error = 0;
	int one = 1;
	int fd = socket(list->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || connect(fd, list->ai_addr, list->ai_addrlen) < 0)
		error = errno;
	freeaddrinfo(list);
	if (error != 0 && fd >= 0)
		(void)close(fd);
	if (error != 0)
		return -error;
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one); /* only slower without */
	return fd;
}

static int open_connection(struct load *load, struct connection *connection)
{
	const struct bench_options *options = load->options;
	int fd = options->etcd != NULL ? connect_tcp(options->etcd) : connect_unix(options->socket);
	if (fd < 0)
		return fd;
	connection->fd = fd;
	connection->slots = calloc(options->depth, sizeof *connection->slots);
	load->n_open++;
	if (connection->slots == NULL)
		return -ENOMEM;
	if (fcntl(fd, F_SETFL, O_NONBLOCK) < 0)
		return -errno;
	watch(load, connection, EPOLL_CTL_ADD);
	return load->protocol->begin(load, connection);
}

static int open_connections(struct load *load)
{
	unsigned n = load->options->connections;
	load->input = malloc(INPUT_SIZE);
	load->connections = calloc(n, sizeof *load->connections);
	if (load->input == NULL || load->connections == NULL)
		return -ENOMEM;
	for (unsigned k = 0; k < n; k++)
		load->connections[k].fd = -1;
	load->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (load->epoll < 0)
		return -errno;
	for (unsigned k = 0; k < n; k++) {
		int r = open_connection(load, &load->connections[k]);
		if (r < 0)
			return r;
	}
	return 0;
}

/* The run --------------------------------------------------------------------------------------------- */

struct phases {
	uint64_t start_ns, measure_ns, end_ns; /* end_ns: UINT64_MAX until ops are done */
	uint64_t stopped_ns;		       /* when issuing ended */
	double cpu_own;
	double cpu[BENCH_GROUPS_MAX];
};

static double group_cpu_us(const struct bench_group *group)
{
	double sum = 0;
	for (unsigned k = 0; k < group->n_pids; k++) {
		double us = bench_cpu_us(group->pids[k]);
		sum += us > 0 ? us : 0;
	}
	return sum;
}

static void begin_measuring(struct load *load, struct phases *phases)
{
	load->measuring = true;
	phases->measure_ns = load->now_ns;
	if (load->options->duration_s > 0)
		phases->end_ns = load->now_ns + (uint64_t)(load->options->duration_s * 1e9);
	phases->cpu_own = own_cpu_us();
	for (unsigned k = 0; k < load->options->n_groups; k++)
		phases->cpu[k] = group_cpu_us(&load->options->groups[k]);
}

static void end_measuring(struct load *load, struct phases *phases)
{
	struct bench_result *result = load->result;
	load->measuring = false;
	load->issuing = false;
	phases->stopped_ns = load->now_ns;
	result->seconds = (double)(load->now_ns - phases->measure_ns) / 1e9;
	result->cpu_us_own = own_cpu_us() - phases->cpu_own;
	for (unsigned k = 0; k < load->options->n_groups; k++)
		result->cpu_us[k] = group_cpu_us(&load->options->groups[k]) - phases->cpu[k];
}

/* True while there is something left to do. */
static bool advance(struct load *load, struct phases *phases)
{
	const struct bench_options *options = load->options;
	if (load->issuing && !load->measuring && load->now_ns >= phases->measure_ns)
		begin_measuring(load, phases);
	bool ops_done = options->ops > 0 && load->issued >= options->ops && load->outstanding == 0;
	if (load->measuring && (load->now_ns >= phases->end_ns || ops_done || load->n_open == 0))
		end_measuring(load, phases);
	if (load->issuing)
		return load->n_open > 0;
	return load->outstanding > 0 && load->now_ns - phases->stopped_ns < DRAIN_NS;
}

static int timeout_ms(const struct load *load, const struct phases *phases)
{
	uint64_t next =
		load->issuing ? (load->measuring ? phases->end_ns : phases->measure_ns) : phases->stopped_ns + DRAIN_NS;
	uint64_t now = bench_now_ns();
	if (next <= now)
		return 0;
	uint64_t ms = (next - now) / 1000000u + 1;
	return ms < 1000 ? (int)ms : 1000;
}

static int start_all(struct load *load)
{
	for (unsigned k = 0; k < load->options->connections; k++) {
		struct connection *connection = &load->connections[k];
		load->now_ns = bench_now_ns();
		int r = fill(load, connection);
		if (r < 0)
			return r;
		flush(load, connection);
	}
	return 0;
}

static int run(struct load *load)
{
	struct phases phases = {.start_ns = bench_now_ns(), .end_ns = UINT64_MAX};
	phases.measure_ns = phases.start_ns + (uint64_t)(load->options->warmup_s * 1e9);
	load->now_ns = phases.start_ns;
	load->issuing = true;
	int r = advance(load, &phases) ? start_all(load) : 0;
	while (r == 0 && advance(load, &phases)) {
		struct epoll_event events[EVENTS_MAX];
		int n = epoll_wait(load->epoll, events, EVENTS_MAX, timeout_ms(load, &phases));
		if (n < 0 && errno != EINTR)
			return -errno;
		load->now_ns = bench_now_ns();
		(void)advance(load, &phases); /* on time, and not after a long turn */
		for (int k = 0; r == 0 && k < n; k++) {
			struct connection *connection = events[k].data.ptr;
			if (connection->fd >= 0)
				r = serve(load, connection, events[k].events);
		}
	}
	load->result->unanswered += load->outstanding;
	load->result->total_seconds = (double)(bench_now_ns() - phases.start_ns) / 1e9;
	return r;
}

static void close_all(struct load *load)
{
	for (unsigned k = 0; load->connections != NULL && k < load->options->connections; k++) {
		if (load->connections[k].fd >= 0)
			(void)close(load->connections[k].fd); /* nothing is owed */
		free(load->connections[k].out);
		free(load->connections[k].slots);
	}
	if (load->epoll >= 0)
		(void)close(load->epoll);
	free(load->connections);
	free(load->input);
	workload_fini(&load->workload);
}

int bench_run(const struct bench_options *options, struct bench_result *ret_result)
{
	struct load load = {.options = options,
			    .result = ret_result,
			    .protocol = options->etcd != NULL ? &etcd_protocol : &line_protocol,
			    .epoll = -1};
	int r = workload_init(&load.workload, options);
	if (r == 0)
		r = open_connections(&load);
	if (r == 0)
		r = run(&load);
	close_all(&load);
	if (r < 0) {
		(void)fprintf(stderr, "raft-bench: %s: %s\n", options->etcd != NULL ? options->etcd : options->socket,
			      strerror(-r));
		return 1;
	}
	histogram_add(&ret_result->all_ns, &ret_result->put_ns);
	histogram_add(&ret_result->all_ns, &ret_result->get_ns);
	return 0;
}
