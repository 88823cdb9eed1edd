/*
 * raftd: one member of the cluster as a service. Options, configuration, the libevent loop, signals, watchdog and the
 * orderly stop. What a request means is in requests.c, what a member does in daemon/replicator.
 */
#include "server.h"

#include "daemon/assert.h"
#include "daemon/metrics/process.h"
#include "daemon/service/service.h"

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

enum exit_code {
	EXIT_CODE_OK = 0,
	EXIT_CODE_USAGE = 64,
	EXIT_CODE_DAMAGED = 65,
	EXIT_CODE_REMOVED = 69,
	EXIT_CODE_IO = 74,
	EXIT_CODE_CLUSTER = 76,
	EXIT_CODE_CONFIG = 78,
};

/* After the last answers were handed to ZeroMQ it gets this long to send them. */
#define STOP_LINGER_MS 50u
/* How soon a full client's queue is tried again. ZeroMQ does not tell when one of many has room. */
#define RETRY_US 1000u
/* Frames that may wait for one client, and from one: a frame has up to 4 MiB. A full queue is waited for. */
#define CLIENT_SEND_QUEUE 32
#define CLIENT_RECEIVE_QUEUE 1024

struct options {
	const char *config;
	uint64_t id;
	bool check_config;
};

/* The loop -------------------------------------------------------------------------------------------- */

static void server_stop_now(struct server *server, int exit_code)
{
	server->exit_code = exit_code;
	event_base_loopbreak(server->base);
}

unsigned server_count_members(const struct server *server)
{
	return server->status.blank ? server->config->n_members : server->status.n_peers + 1;
}

static void server_refresh(struct server *server)
{
	replicator_get_status(server->replicator, &server->status, sizeof server->status);
	server->clients.term = server->status.term;
}

static void server_take_frames(struct server *server)
{
	struct zmq_identity from;
	const uint8_t *data;
	size_t len;
	for (unsigned k = 0; k < SERVER_FRAMES_MAX; k++) {
		int r = zmq_socket_receive(server->socket, &from, &data, &len);
		if (r == 0)
			return;
		if (r < 0) {
			service_log(2, "client-socket-failed", "the client endpoint failed: %s", strerror(-r));
			server_stop_now(server, EXIT_CODE_IO);
			return;
		}
		server_take_frame(server, &from, data, len);
	}
}

/* The hand-over at a stop is over when somebody else leads, or nobody can. */
static void server_check_stop(struct server *server)
{
	if (!server->stopping || server->status.role == SERVER_LEADER)
		return;
	server->stopping = false;
	struct timeval linger = {.tv_usec = STOP_LINGER_MS * 1000};
	(void)event_add(server->stop_event, &linger); /* an event that was added once can be added again */
}

/* The replicator cannot go on. Damage that is found now is healed by the next start, so that one is wanted; divergence is
 * not. */
static void server_stop_for(struct server *server, int why)
{
	int exit_code = EXIT_CODE_IO;
	switch (why) {
	case REPLICATOR_E_REMOVED:
		service_log(4, "removed",
			    "stops: this member was removed from the cluster. Disable its unit; to use "
			    "the host again, empty the data directory and add a member with a new id");
		exit_code = EXIT_CODE_REMOVED;
		break;
	case REPLICATOR_E_DIVERGED:
		service_log(2, "stopped",
			    "stops: its state differs from the others'. Keep a copy of its data directory, then empty "
			    "it and start this member again: it rejoins");
		exit_code = EXIT_CODE_DAMAGED;
		break;
	case REPLICATOR_E_LEVEL: /* and the replicator has said which */
		service_log(2, "stopped", "stops: this program is older than the cluster's feature level");
		exit_code = EXIT_CODE_CONFIG;
		break;
	case REPLICATOR_E_DAMAGED:
		service_log(2, "stopped", "stops: its log is damaged. Started again, it heals from the others");
		break;
	default:
		service_log(2, "disk-failed",
			    "stops: the disk failed: %s. Check it, then start this member again: it trusts only what "
			    "it reads back",
			    strerror(-why));
		break;
	}
	server_stop_now(server, exit_code);
}

static void server_turn(struct server *server)
{
	server_refresh(server);
	server_take_frames(server);
	int r = replicator_process(server->replicator);
	if (r != 0) {
		server_stop_for(server, r);
		return;
	}
	server_refresh(server);
	server_tell_status(server);
	server_watch_leader(server);
	kv_pins_expire(&server->pins, server->store);
	bool reads_left = server_answer_reads(server);
	if (clients_flush(&server->clients) && !event_pending(server->retry_event, EV_TIMEOUT, NULL)) {
		static const struct timeval soon = {.tv_usec = RETRY_US};
		(void)event_add(server->retry_event, &soon); /* an event that was added once can be added again */
	}
	server_check_stop(server);
	if (reads_left || zmq_socket_pending(server->socket))
		event_active(server->clients_event, EV_READ, 0);
}

static void on_work(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	struct server *server = arg;
	uint64_t begin = metrics_now_us();
	server_turn(server);
	uint64_t us = metrics_now_us() - begin;
	metrics_count(&server->counters.turns, us);
	if (us > server->counters.turn_us_max)
		server->counters.turn_us_max = us;
}

static void on_terminate(evutil_socket_t fd, short what, void *arg)
{
	struct server *server = arg;
	(void)what;
	struct service_fields fields = server_log_fields(server);
	service_log_fields(5, "stopping", &fields, "stops on %s", strsignal((int)fd));
	service_notify_stopping();
	struct timeval limit = {.tv_sec = 0, .tv_usec = 0};
	if (server->status.role == SERVER_LEADER && !server->stopping && server_count_members(server) > 1) {
		int r = replicator_transfer(server->replicator, 0);
		if (r == 0) {
			/* A hand-over that does not happen in two election timeouts will not happen. */
			uint64_t us = (uint64_t)server->config->election_timeout_max_ms * 2000u;
			limit = (struct timeval){.tv_sec = (time_t)(us / 1000000u),
						 .tv_usec = (suseconds_t)(us % 1000000u)};
			server->stopping = true;
			/* It used the sockets and moved deadlines outside of a turn. */
			event_active(server->replicator_event, EV_READ, 0);
		}
	}
	(void)event_add(server->stop_event, &limit); /* as above */
}

static void on_stop(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	server_stop_now(arg, EXIT_CODE_OK);
}

static void on_watchdog(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	server_feed_watchdog(arg);
}

static void on_status(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	server_tell_status(arg);
}

static void on_reload(evutil_socket_t fd, short what, void *arg)
{
	struct server_text text;
	(void)fd;
	(void)what;
	(void)server_reload(arg, &text); /* the journal has the text */
}

/* Life ------------------------------------------------------------------------------------------------ */

static int server_add_event(struct server *server, struct event **event, evutil_socket_t fd, short what,
			    event_callback_fn callback, const struct timeval *timeout, int priority)
{
	*event = event_new(server->base, fd, what, callback, server);
	if (*event == NULL)
		return -ENOMEM;
	if (event_priority_set(*event, priority) < 0)
		return -EINVAL;
	return event_add(*event, timeout) < 0 ? -errno : 0;
}

static int server_add_events(struct server *server)
{
	uint64_t watchdog_us = service_watchdog_interval_us();
	int r = server_add_event(server, &server->terminate_event, SIGTERM, EV_SIGNAL | EV_PERSIST, on_terminate, NULL,
				 0);
	if (r == 0)
		r = server_add_event(server, &server->interrupt_event, SIGINT, EV_SIGNAL | EV_PERSIST, on_terminate,
				     NULL, 0);
	if (r == 0)
		r = server_add_event(server, &server->reload_event, SIGHUP, EV_SIGNAL | EV_PERSIST, on_reload, NULL, 0);
	if (r == 0 && watchdog_us > 0) {
		struct timeval interval = {.tv_sec = (time_t)(watchdog_us / 1000000u),
					   .tv_usec = (suseconds_t)(watchdog_us % 1000000u)};
		r = server_add_event(server, &server->watchdog_event, -1, EV_PERSIST, on_watchdog, &interval, 0);
	}
	if (r == 0)
		r = server_add_event(server, &server->replicator_event, replicator_fd(server->replicator),
				     EV_READ | EV_PERSIST, on_work, NULL, 1);
	if (r == 0)
		r = server_add_event(server, &server->clients_event, zmq_socket_fd(server->socket),
				     EV_READ | EV_PERSIST, on_work, NULL, 1);
	if (r == 0) {
		server->stop_event = event_new(server->base, -1, 0, on_stop, server);
		server->retry_event = event_new(server->base, -1, 0, on_work, server);
		server->status_event = event_new(server->base, -1, 0, on_status, server);
		r = server->stop_event == NULL || server->retry_event == NULL || server->status_event == NULL ? -ENOMEM
													      : 0;
	}
	return r;
}

static int server_open_clients(struct server *server)
{
	struct zmq_socket_options options = {.kind = ZMQ_SOCKET_ROUTER,
					     .send_queue_frames = CLIENT_SEND_QUEUE,
					     .receive_queue_frames = CLIENT_RECEIVE_QUEUE,
					     .frame_size_max = KV_FRAME_SIZE_MAX};
	int r = zmq_context_new(&server->zmq);
	if (r == 0)
		r = zmq_socket_open(server->zmq, &options, server->member->client, &server->socket);
	if (r < 0)
		service_log(2, "bind-failed", "cannot bind the client endpoint %s: %s", server->member->client,
			    strerror(-r));
	server->clients.socket = server->socket;
	return r;
}

static int exit_code_from_result(int r)
{
	switch (r) {
	case REPLICATOR_E_CONFIG:
	case REPLICATOR_E_LEVEL:
		return EXIT_CODE_CONFIG;
	case REPLICATOR_E_DAMAGED:
		return EXIT_CODE_DAMAGED;
	case REPLICATOR_E_CLUSTER:
		return EXIT_CODE_CLUSTER;
	default:
		return EXIT_CODE_IO;
	}
}

static void log_lines(int level, const char *event, char *message)
{
	char *rest = NULL;
	for (char *line = strtok_r(message, "\n", &rest); line != NULL; line = strtok_r(NULL, "\n", &rest))
		service_log(level, event, "%s", line);
}

static int server_open(struct server *server, const char *config_path)
{
	static const int n_priorities = 2;
	char *message = malloc(REPLICATOR_MESSAGE_MAX);
	server->first_proposal_ticket = server->next_read_ticket = 1;
	server->proposals.element_size = sizeof(struct server_proposal);
	server->read_batches.element_size = server->ready_batches.element_size = sizeof(struct server_read_batch);
	server->store = kv_store_new();
	kv_pins_init(&server->pins);
	server->base = event_base_new();
	if (message == NULL || server->store == NULL || server->base == NULL ||
	    event_base_priority_init(server->base, n_priorities) < 0) {
		service_log(2, "no-memory", "cannot start: no memory");
		free(message);
		return EXIT_CODE_IO;
	}
	int r = replicator_new(server->member->id, config_path, &server_machine, server, &server->replicator, message);
	if (r != 0) {
		log_lines(2, "start-failed", message);
		free(message);
		return exit_code_from_result(r);
	}
	free(message);
	replicator_get_status(server->replicator, &server->status, sizeof server->status);
	server->clients.cluster = server->status.cluster;
	raft_assert(server->status.cluster == kv_cluster_id(server->config->cluster_name)); /* what clients call it */
	r = server_open_clients(server);
	if (r == 0)
		r = server_add_events(server);
	if (r == 0)
		r = server_open_metrics(server);
	return r == 0 ? EXIT_CODE_OK : EXIT_CODE_IO;
}

static void server_close(struct server *server)
{
	struct event *events[] = {server->replicator_event, server->clients_event,  server->terminate_event,
				  server->interrupt_event,  server->watchdog_event, server->stop_event,
				  server->retry_event,	    server->reload_event,   server->status_event};
	for (size_t k = 0; k < sizeof events / sizeof events[0]; k++)
		if (events[k] != NULL)
			event_free(events[k]);
	server->metrics = metrics_endpoint_free(server->metrics);
	replicator_free(server->replicator);
	zmq_socket_free(server->socket);
	zmq_context_free(server->zmq);
	if (server->base != NULL)
		event_base_free(server->base);
	server_requests_fini(server);
	clients_free(&server->clients);
	kv_store_load_free(server->loader);
	kv_pins_fini(&server->pins);
	kv_store_free(server->store);
}

static int server_run(struct config *config, const struct config_member *member, const char *config_path)
{
	struct timespec now;
	struct server *server = calloc(1, sizeof *server);
	if (server == NULL)
		return EXIT_CODE_IO;
	int r = clock_gettime(CLOCK_MONOTONIC, &now);
	raft_assert(r == 0);
	server->started_ms = (uint64_t)now.tv_sec * 1000u + (uint64_t)now.tv_nsec / 1000000u;
	server->config = config;
	server->config_path = config_path;
	server->member = member;
	server->exit_code = server_open(server, config_path);
	if (server->exit_code == EXIT_CODE_OK) {
		struct service_fields fields = server_log_fields(server);
		service_log_fields(5, "ready", &fields, "member %llu of %u of cluster %s is ready",
				   (unsigned long long)member->id, config->n_members, config->cluster_name);
		service_notify_ready();
		server_turn(server);
		/* A loopbreak before the loop has begun is forgotten. Ends by loopbreak only: signals are always pending. */
		if (server->exit_code == EXIT_CODE_OK)
			(void)event_base_dispatch(server->base);
	}
	int exit_code = server->exit_code;
	server_close(server);
	free(server);
	return exit_code;
}

/* Command line ---------------------------------------------------------------------------------------- */

static void print_usage(FILE *out)
{
	fputs("usage: raftd --config FILE --id N\n"
	      "       raftd --config FILE [--id N] --check-config\n"
	      "  --config FILE    the cluster's configuration, raft.conf(5)\n"
	      "  --id N           which of its members this one is\n"
	      "  --check-config   report every mistake in the configuration, and exit\n"
	      "  --help, --version\n",
	      out);
}

/* Returns -1 to go on, otherwise the exit code. */
static int parse_options(int argc, char **argv, struct options *options)
{
	static const struct option longs[] = {
		{"config", required_argument, NULL, 'c'}, {"id", required_argument, NULL, 'i'},
		{"check-config", no_argument, NULL, 'k'}, {"help", no_argument, NULL, 'h'},
		{"version", no_argument, NULL, 'V'},	  {NULL, 0, NULL, 0}};
	int option;
	while ((option = getopt_long(argc, argv, "c:i:hV", longs, NULL)) != -1) {
		switch (option) {
		case 'c':
			options->config = optarg;
			break;
		case 'i':
			if (!config_parse_u64(optarg, 1, INT64_MAX, &options->id)) {
				fprintf(stderr, "raftd: --id %s: a member's id is a whole number from 1 on\n", optarg);
				return EXIT_CODE_USAGE;
			}
			break;
		case 'k':
			options->check_config = true;
			break;
		case 'h':
			print_usage(stdout);
			return EXIT_CODE_OK;
		case 'V':
			puts("raftd " RAFT_KV_VERSION);
			return EXIT_CODE_OK;
		default:
			print_usage(stderr);
			return EXIT_CODE_USAGE;
		}
	}
	if (optind < argc || options->config == NULL || (options->id == 0 && !options->check_config)) {
		print_usage(stderr);
		return EXIT_CODE_USAGE;
	}
	return -1;
}

static void print_mistake(void *arg, const char *line)
{
	(void)arg;
	service_log(3, "config", "%s", line);
}

static int read_config(const struct options *options, struct config *config, const struct config_member **ret_member)
{
	if (config_read(options->config, config, print_mistake, NULL) != 0)
		return EXIT_CODE_CONFIG;
	service_set_level((int)config->log_level);
	*ret_member = options->id == 0 ? NULL : config_find_member(config, options->id);
	if (options->id != 0 && *ret_member == NULL) {
		service_log(3, "config", "%s: there is no section [member %llu]", options->config,
			    (unsigned long long)options->id);
		return EXIT_CODE_CONFIG;
	}
	return EXIT_CODE_OK;
}

int main(int argc, char **argv)
{
	struct options options = {0};
	const struct config_member *member = NULL;
	int code = parse_options(argc, argv, &options);
	if (code >= 0)
		return code;
	service_init("raftd", options.id, CONFIG_LOG_INFO);
	(void)signal(SIGPIPE, SIG_IGN); /* cannot fail for these signals */
	(void)signal(SIGHUP, SIG_IGN);	/* until there is something to reload */
	struct config *config = calloc(1, sizeof *config);
	if (config == NULL)
		return EXIT_CODE_IO;
	code = read_config(&options, config, &member);
	if (code == EXIT_CODE_OK && options.check_config)
		printf("%s: ok, %u members\n", options.config, config->n_members);
	else if (code == EXIT_CODE_OK)
		code = server_run(config, member, options.config);
	free(config);
	return code;
}
