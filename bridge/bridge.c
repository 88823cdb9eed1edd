/*
 * raft-bridge: clients on a Unix socket, the members behind it. This file has the options, the loop and the signals;
 * README.md says where the rest is.
 *
 * One thread, one loop. A turn: take what the descriptors have (lines from clients are parsed and submitted, answers of
 * members go to their requests), then let those go on that waited, then send to the members, then write to the clients.
 */
#include "bridge/client.h"
#include "bridge/clock.h"
#include "bridge/members.h"
#include "bridge/monitor.h"
#include "bridge/reload.h"
#include "bridge/session.h"
#include "daemon/assert.h"
#include "daemon/config/config.h"
#include "daemon/service/service.h"

#include <errno.h>
#include <event2/event.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define EXIT_USAGE 64
#define EXIT_IO 74
#define EXIT_CONFIG 78

#define DESCRIPTORS_RESERVED 128u /* for ZeroMQ, the loop, the journal */
#define STOP_MS_MAX 10000u

struct bridge {
	struct config config;
	const char *config_path;
	const char *socket_path;
	int listen_fd;
	bool unlink_socket; /* this process has made it */
	struct event_base *base;
	struct zmq_context *context;
	struct members *members;
	struct pool pool;
	struct session *session;
	struct clients *clients;
	struct monitor *monitor; /* NULL: no metrics are served */
	struct event *timer;
	uint64_t timer_ms; /* when it fires; UINT64_MAX: it is not set */
	struct event *signals[2];
	struct event *reload;
	struct event *watchdog;
	struct event *watch[RAFT_MEMBERS_MAX][2];
	struct member_watch {
		struct bridge *bridge;
		unsigned member;
	} watches[RAFT_MEMBERS_MAX];
	uint64_t now_ms;
	uint64_t stop_ms; /* when to end in any case; 0: not stopping */
	uint64_t leader_shown;
};

/* Options ---------------------------------------------------------------------------------------------- */

struct options {
	const char *config_path;
	const char *socket_path;
	bool check_config;
};

static void print_usage(FILE *file)
{
	fputs("usage: raft-bridge --config FILE [--socket PATH]\n"
	      "       raft-bridge --check-config --config FILE\n"
	      "\n"
	      "Serves the line protocol of raft-kv on a Unix socket; see raft-bridge(8).\n"
	      "\n"
	      "  -c, --config FILE   the configuration that all of this host share (/etc/raft/raft.conf)\n"
	      "  -s, --socket PATH   listen here, not at [bridge] socket; a socket passed by systemd goes first\n"
	      "      --check-config  read the configuration, report every mistake, and end\n"
	      "  -h, --help          show this\n"
	      "      --version       show the version\n",
	      file);
}

/* Returns -1 to go on, else the exit code. */
static int parse_options(int argc, char **argv, struct options *ret_options)
{
	static const struct option longs[] = {
		{"config", required_argument, NULL, 'c'}, {"socket", required_argument, NULL, 's'},
		{"check-config", no_argument, NULL, 'k'}, {"help", no_argument, NULL, 'h'},
		{"version", no_argument, NULL, 'v'},	  {NULL, 0, NULL, 0},
	};
	struct options options = {.config_path = "/etc/raft/raft.conf"};
	int c;
	while ((c = getopt_long(argc, argv, "c:s:h", longs, NULL)) != -1) {
		switch (c) {
		case 'c':
			options.config_path = optarg;
			break;
		case 's':
			options.socket_path = optarg;
			break;
		case 'k':
			options.check_config = true;
			break;
		case 'h':
			print_usage(stdout);
			return 0;
		case 'v':
			puts("raft-bridge " RAFT_KV_VERSION);
			return 0;
		default:
			print_usage(stderr);
			return EXIT_USAGE;
		}
	}
	if (optind < argc) {
		fprintf(stderr, "raft-bridge: '%s' is not an option; try --help\n", argv[optind]);
		return EXIT_USAGE;
	}
	*ret_options = options;
	return -1;
}

static void report_mistake(void *arg, const char *line)
{
	(void)arg;
	service_log(3, "config", "%s", line);
}

static void print_mistake(void *arg, const char *line)
{
	(void)arg;
	fprintf(stderr, "%s\n", line);
}

/* The socket ------------------------------------------------------------------------------------------- */

/* True when nobody accepts connections at the path: a socket left behind by a process that was killed. */
static bool socket_is_stale(const struct sockaddr_un *address)
{
	struct stat st;
	if (lstat(address->sun_path, &st) < 0 || !S_ISSOCK(st.st_mode))
		return false;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return false;
	int r = connect(fd, (const struct sockaddr *)address, sizeof *address);
	bool stale = r < 0 && errno == ECONNREFUSED;
	close(fd);
	return stale;
}

static int bind_socket(int fd, const struct sockaddr_un *address, mode_t mode)
{
	/* Nobody may connect before the mode is as configured. */
	mode_t before = umask(0777 & ~mode);
	int r = bind(fd, (const struct sockaddr *)address, sizeof *address);
	if (r < 0 && errno == EADDRINUSE && socket_is_stale(address) && unlink(address->sun_path) == 0)
		r = bind(fd, (const struct sockaddr *)address, sizeof *address);
	int error = errno;
	umask(before);
	return r < 0 ? -error : 0;
}

static int listen_at(const char *path, mode_t mode)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	size_t len = strlen(path);
	if (len == 0 || len >= sizeof address.sun_path) {
		service_log(3, "socket", "the socket's path '%s' must have 1 to %zu bytes", path,
			    sizeof address.sun_path - 1);
		return -ENAMETOOLONG;
	}
	memcpy(address.sun_path, path, len);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int r = fd < 0 ? -errno : bind_socket(fd, &address, mode);
	if (r == 0 && listen(fd, SOMAXCONN) < 0)
		r = -errno;
	if (r == 0)
		return fd;
	service_log(3, "socket", "cannot listen at %s: %s", path, strerror(-r));
	if (fd >= 0)
		close(fd);
	return r;
}

static int open_listener(struct bridge *bridge)
{
	int fd = service_listen_fd();
	if (fd == -EINVAL)
		return fd;
	if (fd < 0) {
		fd = listen_at(bridge->socket_path, (mode_t)bridge->config.bridge_socket_mode);
		bridge->unlink_socket = fd >= 0;
	} else {
		bridge->socket_path = "the socket passed by systemd";
	}
	bridge->listen_fd = fd;
	return fd < 0 ? fd : 0;
}

/* As many descriptors as connections_max needs, or fewer connections. */
static void fit_descriptors(struct config *config)
{
	struct rlimit limit;
	uint64_t needed = (uint64_t)config->connections_max + DESCRIPTORS_RESERVED;
	if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur >= needed)
		return;
	limit.rlim_cur = limit.rlim_max < needed ? limit.rlim_max : needed;
	if (setrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur >= needed)
		return;
	uint64_t fits = limit.rlim_cur > 2 * DESCRIPTORS_RESERVED ? limit.rlim_cur - DESCRIPTORS_RESERVED
								  : DESCRIPTORS_RESERVED;
	service_log(4, "descriptors", "connections_max is %u, but LimitNOFILE allows for %llu: taking that",
		    config->connections_max, (unsigned long long)fits);
	config->connections_max = (uint32_t)fits;
}

/* Events ----------------------------------------------------------------------------------------------- */

static void on_reply(void *arg, unsigned member, const struct kv_frame_item *item)
{
	struct bridge *bridge = arg;
	session_reply(bridge->session, member, item, bridge->now_ms);
}

static void on_lost(void *arg, unsigned member)
{
	struct bridge *bridge = arg;
	session_member_lost(bridge->session, member);
}

static void on_member(evutil_socket_t fd, short what, void *arg)
{
	struct member_watch *watch = arg;
	(void)fd;
	(void)what;
	members_wake(watch->bridge->members, watch->member);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct bridge *bridge = arg;
	(void)fd;
	(void)what;
	bridge->timer_ms = UINT64_MAX; /* the turn that follows does what is due */
}

static void on_watchdog(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	(void)arg;
	service_watchdog_ping();
}

static void on_stop(evutil_socket_t signal_number, short what, void *arg)
{
	struct bridge *bridge = arg;
	(void)what;
	if (bridge->stop_ms != 0) {
		bridge->stop_ms = 1; /* asked twice: at once */
		return;
	}
	uint64_t bound =
		bridge->config.request_timeout_ms < STOP_MS_MAX ? bridge->config.request_timeout_ms : STOP_MS_MAX;
	bridge->stop_ms = clock_now_ms() + bound + 500;
	service_log(5, "stopping", "stopping on signal %d; %u connections are served to the end", (int)signal_number,
		    clients_count(bridge->clients));
	service_notify_stopping();
	service_notify_extend_us((bound + 1000) * 1000);
	monitor_note_stopping(bridge->monitor);
	clients_stop(bridge->clients);
}

static void on_reload(evutil_socket_t signal_number, short what, void *arg)
{
	struct bridge *bridge = arg;
	(void)signal_number;
	(void)what;
	bridge_reload(bridge->config_path, &bridge->config);
}

/* Life ------------------------------------------------------------------------------------------------- */

static struct event *add_event(struct bridge *bridge, evutil_socket_t fd, short what, event_callback_fn callback,
			       void *arg)
{
	struct event *event = event_new(bridge->base, fd, what, callback, arg);
	if (event != NULL && (what & EV_TIMEOUT) == 0 && event_add(event, NULL) < 0) {
		event_free(event);
		return NULL;
	}
	return event;
}

static void unwatch_member(void *arg, unsigned member)
{
	struct bridge *bridge = arg;
	for (unsigned j = 0; j < 2; j++) {
		if (bridge->watch[member][j] != NULL)
			event_free(bridge->watch[member][j]);
		bridge->watch[member][j] = NULL;
	}
}

static bool watch_member(void *arg, unsigned member, int fd, int monitor_fd)
{
	struct bridge *bridge = arg;
	int fds[2] = {fd, monitor_fd};
	bridge->watches[member] = (struct member_watch){bridge, member};
	for (unsigned j = 0; j < 2; j++) {
		if (fds[j] < 0)
			continue;
		bridge->watch[member][j] =
			add_event(bridge, fds[j], EV_READ | EV_PERSIST, on_member, &bridge->watches[member]);
		if (bridge->watch[member][j] == NULL)
			return false; /* the one that was made is freed by unwatch_member */
	}
	return true;
}

static bool watch_process(struct bridge *bridge)
{
	static const int numbers[] = {SIGTERM, SIGINT};
	uint64_t watchdog_us = service_watchdog_interval_us();
	struct timeval interval = {.tv_sec = (time_t)(watchdog_us / 1000000),
				   .tv_usec = (suseconds_t)(watchdog_us % 1000000)};
	for (unsigned k = 0; k < 2; k++) {
		bridge->signals[k] = add_event(bridge, numbers[k], EV_SIGNAL | EV_PERSIST, on_stop, bridge);
		if (bridge->signals[k] == NULL)
			return false;
	}
	bridge->reload = add_event(bridge, SIGHUP, EV_SIGNAL | EV_PERSIST, on_reload, bridge);
	bridge->timer = add_event(bridge, -1, EV_TIMEOUT, on_timer, bridge);
	bridge->timer_ms = UINT64_MAX;
	if (bridge->timer == NULL || bridge->reload == NULL)
		return false;
	if (watchdog_us == 0)
		return true;
	bridge->watchdog = add_event(bridge, -1, EV_TIMEOUT | EV_PERSIST, on_watchdog, bridge);
	return bridge->watchdog != NULL && event_add(bridge->watchdog, &interval) == 0;
}

static int start_members(struct bridge *bridge)
{
	struct session_options session = {.pool = &bridge->pool,
					  .timeout_ms = bridge->config.request_timeout_ms,
					  .answered = clients_answered,
					  .arg = &bridge->clients};
	struct members_events events = {
		.reply = on_reply, .lost = on_lost, .opened = watch_member, .closing = unwatch_member, .arg = bridge};
	if (getrandom(&session.nonce, sizeof session.nonce, 0) != sizeof session.nonce)
		return -EIO;
	int r = session_new(&session, &bridge->session);
	if (r == 0)
		r = zmq_context_new(&bridge->context);
	if (r == 0)
		r = members_new(&bridge->config, bridge->context, &events, &bridge->members);
	if (r == 0)
		session_set_members(bridge->session, bridge->members);
	return r;
}

static int bridge_start(struct bridge *bridge)
{
	int r = open_listener(bridge);
	if (r < 0)
		return r;
	fit_descriptors(&bridge->config);
	bridge->base = event_base_new();
	r = bridge->base == NULL ? -ENOMEM : start_members(bridge);
	if (r < 0)
		return r;
	struct clients_options clients = {.base = bridge->base,
					  .pool = &bridge->pool,
					  .session = bridge->session,
					  .listen_fd = bridge->listen_fd,
					  .connections_max = bridge->config.connections_max};
	r = clients_new(&clients, &bridge->clients);
	if (r < 0)
		return r;
	struct monitor_sources sources = {.base = bridge->base,
					  .config = &bridge->config,
					  .clients = bridge->clients,
					  .session = bridge->session,
					  .members = bridge->members,
					  .pool = &bridge->pool};
	r = monitor_new(&sources, &bridge->monitor);
	if (r < 0)
		return r;
	return watch_process(bridge) ? 0 : -ENOMEM;
}

static void free_event(struct event *event)
{
	if (event != NULL)
		event_free(event);
}

static void bridge_fini(struct bridge *bridge)
{
	monitor_free(bridge->monitor);
	clients_free(bridge->clients);
	session_free(bridge->session);
	free_event(bridge->signals[0]);
	free_event(bridge->signals[1]);
	free_event(bridge->reload);
	free_event(bridge->timer);
	free_event(bridge->watchdog);
	members_free(bridge->members);
	zmq_context_free(bridge->context);
	if (bridge->base != NULL)
		event_base_free(bridge->base);
	pool_fini(&bridge->pool);
	if (bridge->listen_fd >= 0)
		close(bridge->listen_fd);
	if (bridge->unlink_socket)
		unlink(bridge->socket_path);
}

/* The loop --------------------------------------------------------------------------------------------- */

static void set_timer(struct bridge *bridge)
{
	uint64_t due = session_due_ms(bridge->session, bridge->now_ms);
	if (bridge->stop_ms != 0 && bridge->stop_ms < due)
		due = bridge->stop_ms;
	/* One that fires early does no harm, and most deadlines only move away. */
	if (due >= bridge->timer_ms)
		return;
	uint64_t wait_ms = due > bridge->now_ms ? due - bridge->now_ms : 0;
	struct timeval wait = {.tv_sec = (time_t)(wait_ms / 1000), .tv_usec = (suseconds_t)(wait_ms % 1000 * 1000)};
	if (event_add(bridge->timer, &wait) == 0)
		bridge->timer_ms = due;
}

static void show_leader(struct bridge *bridge)
{
	uint64_t leader = members_leader_id(bridge->members);
	if (leader == bridge->leader_shown)
		return;
	bridge->leader_shown = leader;
	if (leader != 0)
		service_notify_status("leader is member %llu", (unsigned long long)leader);
	else
		service_notify_status("looking for a leader");
}

/* Returns true when there is more to do at once. */
static bool bridge_turn(struct bridge *bridge)
{
	uint64_t begin = monitor_begin_turn(bridge->monitor);
	bridge->now_ms = clock_now_ms();
	members_receive(bridge->members, bridge->now_ms);
	clients_resume(bridge->clients, bridge->now_ms);
	session_turn(bridge->session, bridge->now_ms);
	clients_flush(bridge->clients);
	show_leader(bridge);
	set_timer(bridge);
	bool pending = members_pending(bridge->members);
	monitor_end_turn(bridge->monitor, begin);
	return clients_pending(bridge->clients) || pending;
}

static int bridge_run(struct bridge *bridge)
{
	bool pending = bridge_turn(bridge);
	while (bridge->stop_ms == 0 || (bridge->now_ms < bridge->stop_ms && clients_count(bridge->clients) > 0)) {
		if (event_base_loop(bridge->base, EVLOOP_ONCE | (pending ? EVLOOP_NONBLOCK : 0)) < 0) {
			service_log(3, "loop-failed", "the event loop failed: %s", strerror(errno));
			return EXIT_IO;
		}
		pending = bridge_turn(bridge);
	}
	if (clients_count(bridge->clients) > 0)
		service_log(4, "connections-cut", "stopped with %u connections still waiting", clients_count(bridge->clients));
	return 0;
}

int main(int argc, char **argv)
{
	static struct bridge bridge = {.listen_fd = -1};
	struct options options;
	int r = parse_options(argc, argv, &options);
	if (r >= 0)
		return r;
	if (options.check_config)
		return config_read(options.config_path, &bridge.config, print_mistake, NULL) == 0 ? 0 : EXIT_CONFIG;
	service_init("raft-bridge", 0, CONFIG_LOG_INFO);
	if (config_read(options.config_path, &bridge.config, report_mistake, NULL) != 0)
		return EXIT_CONFIG;
	service_set_level((int)bridge.config.log_level);
	bridge.socket_path = options.socket_path != NULL ? options.socket_path : bridge.config.bridge_socket;
	bridge.config_path = options.config_path;
	signal(SIGPIPE, SIG_IGN);
	signal(SIGHUP, SIG_IGN); /* until there is something to reload */
	r = bridge_start(&bridge);
	if (r == 0) {
		service_log(5, "started", "serving %s, %u members configured", bridge.socket_path,
			    members_count(bridge.members));
		service_notify_ready();
		r = bridge_run(&bridge);
	} else {
		service_log(3, "start-failed", "cannot start: %s", strerror(-r));
		r = EXIT_IO;
	}
	bridge_fini(&bridge);
	return r;
}
