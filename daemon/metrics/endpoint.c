/* See endpoint.h. */
#include "daemon/metrics/endpoint.h"

#include "daemon/assert.h"
#include "daemon/metrics/process.h"

#include <arpa/inet.h>
#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/http.h>
#include <event2/listener.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define BACKLOG 16
#define TICK_MS 50u
#define TICKS_MAX (METRICS_CONNECTION_SECONDS * 1000u / TICK_MS)

/* evhttp tells of a connection when it begins and, once a request was handed over, of its end. One that never sends a
 * request, or one that evhttp refuses by itself, would be known to nobody: so each is held here from the beginning, looked
 * at a few times a second, and ended here when its time is over. */
struct connection {
	struct metrics_endpoint *endpoint;
	struct bufferevent *stream;	/* one reference is ours, and with it the descriptor; NULL: the slot is free */
	struct evhttp_connection *http; /* known once there was a request */
	struct event *tick;
	unsigned ticks;
};

struct metrics_endpoint {
	struct metrics_endpoint_options options;
	char path[sizeof((struct sockaddr_un *)NULL)->sun_path];
	struct evhttp *http;
	struct evconnlistener *listener; /* owned by http once that has it */
	struct connection connections[METRICS_CONNECTIONS_MAX];
	struct metrics_endpoint_stats stats;
	char *rendered; /* NULL: nothing is cached */
	size_t rendered_len;
	struct event *forget; /* ends the cache's life */
};

/* Connections ----------------------------------------------------------------------------------------- */

static void release(struct connection *connection)
{
	struct metrics_endpoint *endpoint = connection->endpoint;

	raft_assert(connection->stream != NULL && endpoint->stats.connections > 0);
	if (connection->http != NULL)
		evhttp_connection_set_closecb(connection->http, NULL, NULL);
	connection->http = NULL;
	(void)event_del(connection->tick); /* fails only when it was never set up */
	(void)bufferevent_decref(connection->stream);
	connection->stream = NULL;
	endpoint->stats.connections--;
	if (endpoint->listener != NULL)
		(void)evconnlistener_enable(
			endpoint->listener); /* fails without memory; the next release tries again */
}

static void on_close(struct evhttp_connection *http, void *arg)
{
	struct connection *connection = arg;
	raft_assert(connection->http == http);
	release(connection);
}

/* evhttp has freed the stream, but for our reference. */
static bool is_abandoned(struct bufferevent *stream)
{
	bufferevent_event_cb on_event = NULL;
	bufferevent_getcb(stream, NULL, NULL, &on_event, NULL);
	return on_event == NULL;
}

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
	struct connection *connection = arg;
	(void)fd;
	(void)what;
	if (is_abandoned(connection->stream)) {
		release(connection);
		return;
	}
	if (++connection->ticks < TICKS_MAX)
		return;
	/* What is left of the connection ends by itself, as evhttp reads the end of its input. */
	connection->endpoint->stats.cut++;
	(void)shutdown(bufferevent_getfd(connection->stream), SHUT_RDWR); /* closed already: fine */
	release(connection);
}

/* The stream of a connection that is being accepted; there is a free slot whenever the listener is enabled. NULL, when
 * memory is short, lets evhttp make one of its own, if it can: that one is ended by evhttp's timeout for silent clients. */
static struct bufferevent *on_accept(struct event_base *base, void *arg)
{
	static const struct timeval tick = {.tv_usec = TICK_MS * 1000};
	struct metrics_endpoint *endpoint = arg;
	struct connection *connection = endpoint->connections;

	while (connection->stream != NULL)
		connection++;
	raft_assert(connection < endpoint->connections + METRICS_CONNECTIONS_MAX);
	struct bufferevent *stream = bufferevent_socket_new(base, -1, BEV_OPT_CLOSE_ON_FREE);
	if (stream == NULL || event_add(connection->tick, &tick) < 0) {
		if (stream != NULL)
			bufferevent_free(stream);
		return NULL;
	}
	(void)bufferevent_priority_set(stream, endpoint->options.priority); /* without it, a little earlier or later */
	bufferevent_incref(stream);
	connection->stream = stream;
	connection->ticks = 0;
	if (++endpoint->stats.connections == METRICS_CONNECTIONS_MAX)
		(void)evconnlistener_disable(endpoint->listener);
	return stream;
}

/* Answers --------------------------------------------------------------------------------------------- */

static void send_answer(struct evhttp_request *request, int code, const char *reason, const char *type,
			const char *body, size_t len)
{
	struct evkeyvalq *headers = evhttp_request_get_output_headers(request);
	struct evbuffer *out = evbuffer_new();

	/* What cannot be added for want of memory is missed by the client, and the connection still ends. */
	(void)evhttp_add_header(headers, "Content-Type", type);
	(void)evhttp_add_header(headers, "Connection", "close");
	(void)evhttp_add_header(headers, "Cache-Control", "no-store");
	(void)evhttp_add_header(headers, "X-Content-Type-Options", "nosniff");
	if (out == NULL || evbuffer_add(out, body, len) < 0)
		evhttp_send_error(request, HTTP_INTERNAL, NULL);
	else
		evhttp_send_reply(request, code, reason, out);
	if (out != NULL)
		evbuffer_free(out);
}

static void send_text(struct evhttp_request *request, int code, const char *reason, const char *body)
{
	send_answer(request, code, reason, "text/plain; charset=utf-8", body, strlen(body));
}

static void on_forget(evutil_socket_t fd, short what, void *arg)
{
	struct metrics_endpoint *endpoint = arg;
	(void)fd;
	(void)what;
	free(endpoint->rendered);
	endpoint->rendered = NULL;
}

/* False: no memory, or more than fits. */
static bool render(struct metrics_endpoint *endpoint)
{
	static const struct timeval life = {.tv_usec = METRICS_CACHE_MS * 1000};
	uint64_t begin = metrics_now_us();
	char *buf = malloc(METRICS_TEXT_MAX);

	if (buf == NULL)
		return false;
	struct metrics_text text = metrics_text(buf, METRICS_TEXT_MAX);
	endpoint->options.render(endpoint->options.arg, &text);
	if (text.overflow || event_add(endpoint->forget, &life) < 0) {
		free(buf);
		return false;
	}
	endpoint->rendered = buf;
	endpoint->rendered_len = text.len;
	uint64_t us = metrics_now_us() - begin;
	if (us > endpoint->stats.render_us_max)
		endpoint->stats.render_us_max = us;
	return true;
}

static void answer_metrics(struct metrics_endpoint *endpoint, struct evhttp_request *request)
{
	if (endpoint->rendered == NULL && !render(endpoint))
		send_text(request, HTTP_INTERNAL, "Internal Server Error", "the metrics do not fit into memory\n");
	else
		send_answer(request, HTTP_OK, "OK", "text/plain; version=0.0.4; charset=utf-8", endpoint->rendered,
			    endpoint->rendered_len);
}

static void answer_check(struct metrics_endpoint *endpoint, struct evhttp_request *request, bool ready)
{
	char body[2048];
	struct metrics_text text = metrics_text(body, sizeof body);
	bool fine = endpoint->options.check(endpoint->options.arg, ready, &text);

	metrics_line(&text, "%s", fine ? "ok" : "failed");
	raft_assert(!text.overflow);
	send_text(request, fine ? HTTP_OK : HTTP_SERVUNAVAIL, fine ? "OK" : "Service Unavailable", body);
}

static void note_connection(struct metrics_endpoint *endpoint, struct evhttp_request *request)
{
	struct evhttp_connection *http = evhttp_request_get_connection(request);
	const struct bufferevent *stream = evhttp_connection_get_bufferevent(http);

	for (unsigned k = 0; k < METRICS_CONNECTIONS_MAX; k++) {
		struct connection *connection = &endpoint->connections[k];
		if (connection->stream != stream)
			continue;
		connection->http = http;
		evhttp_connection_set_closecb(http, on_close, connection);
	}
}

static void on_request(struct evhttp_request *request, void *arg)
{
	struct metrics_endpoint *endpoint = arg;
	const struct evhttp_uri *uri = evhttp_request_get_evhttp_uri(request);
	const char *path = uri == NULL ? NULL : evhttp_uri_get_path(uri);

	note_connection(endpoint, request);
	endpoint->stats.requests++;
	if (path == NULL)
		send_text(request, HTTP_BADREQUEST, "Bad Request", "no path\n");
	else if (strcmp(path, "/metrics") == 0)
		answer_metrics(endpoint, request);
	else if (strcmp(path, "/healthz") == 0)
		answer_check(endpoint, request, false);
	else if (strcmp(path, "/readyz") == 0)
		answer_check(endpoint, request, true);
	else
		send_text(request, HTTP_NOTFOUND, "Not Found", "here are /metrics, /healthz and /readyz\n");
}

/* Life ------------------------------------------------------------------------------------------------ */

/* True when nobody accepts connections at the path: a socket left behind by a process that was killed. */
static bool is_stale(const struct sockaddr_un *address)
{
	struct stat st;
	if (lstat(address->sun_path, &st) < 0 || !S_ISSOCK(st.st_mode))
		return false;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return false;
	bool stale = connect(fd, (const struct sockaddr *)address, sizeof *address) < 0 && errno == ECONNREFUSED;
	(void)close(fd); /* nothing was written */
	return stale;
}

static int bind_path(int fd, struct metrics_endpoint *endpoint)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	if (strlen(endpoint->options.path) >= sizeof address.sun_path)
		return -ENAMETOOLONG;
	memcpy(address.sun_path, endpoint->options.path, strlen(endpoint->options.path) + 1);
	/* Nobody may connect before the mode is right. */
	mode_t before = umask(0777 & ~endpoint->options.mode);
	int r = bind(fd, (const struct sockaddr *)&address, sizeof address);
	if (r < 0 && errno == EADDRINUSE && is_stale(&address) && unlink(address.sun_path) == 0)
		r = bind(fd, (const struct sockaddr *)&address, sizeof address);
	r = r < 0 ? -errno : 0;
	(void)umask(before);
	if (r == 0)
		memcpy(endpoint->path, address.sun_path, sizeof endpoint->path);
	return r;
}

static int bind_address(int fd, const struct metrics_endpoint_options *options)
{
	struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons(options->port)};
	struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons(options->port)};
	const int on = 1;
	int r;

	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0)
		return -errno;
	if (inet_pton(AF_INET, options->host, &v4.sin_addr) == 1)
		r = bind(fd, (const struct sockaddr *)&v4, sizeof v4);
	else if (inet_pton(AF_INET6, options->host, &v6.sin6_addr) == 1)
		r = bind(fd, (const struct sockaddr *)&v6, sizeof v6);
	else
		return -EINVAL;
	return r < 0 ? -errno : 0;
}

static int open_socket(struct metrics_endpoint *endpoint)
{
	const struct metrics_endpoint_options *options = &endpoint->options;
	bool local = options->path[0] != '\0';
	int family = local ? AF_UNIX : strchr(options->host, ':') != NULL ? AF_INET6 : AF_INET;
	int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return -errno;
	int r = local ? bind_path(fd, endpoint) : bind_address(fd, options);
	if (r == 0 && listen(fd, BACKLOG) < 0)
		r = -errno;
	if (r == 0)
		return fd;
	(void)close(fd); /* nobody has connected */
	return r;
}

static int set_up(struct metrics_endpoint *endpoint)
{
	struct event_base *base = endpoint->options.base;

	endpoint->forget = event_new(base, -1, 0, on_forget, endpoint);
	endpoint->http = evhttp_new(base);
	if (endpoint->forget == NULL || endpoint->http == NULL)
		return -ENOMEM;
	for (unsigned k = 0; k < METRICS_CONNECTIONS_MAX; k++) {
		struct connection *connection = &endpoint->connections[k];
		connection->endpoint = endpoint;
		connection->tick = event_new(base, -1, EV_PERSIST, on_tick, connection);
		if (connection->tick == NULL)
			return -ENOMEM;
	}
	evhttp_set_allowed_methods(endpoint->http, EVHTTP_REQ_GET);
	evhttp_set_max_headers_size(endpoint->http, METRICS_HEADERS_MAX);
	evhttp_set_max_body_size(endpoint->http, 0);
	evhttp_set_timeout(endpoint->http, METRICS_CONNECTION_SECONDS + 1); /* the limit here comes first */
	evhttp_set_bevcb(endpoint->http, on_accept, endpoint);
	evhttp_set_gencb(endpoint->http, on_request, endpoint);
	return 0;
}

static int start_listening(struct metrics_endpoint *endpoint)
{
	int fd = open_socket(endpoint);

	if (fd < 0)
		return fd;
	endpoint->listener = evconnlistener_new(endpoint->options.base, NULL, NULL,
						LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC, 0, fd);
	if (endpoint->listener == NULL) {
		(void)close(fd); /* as above */
		return -ENOMEM;
	}
	if (evhttp_bind_listener(endpoint->http, endpoint->listener) == NULL) {
		evconnlistener_free(endpoint->listener);
		endpoint->listener = NULL;
		return -ENOMEM;
	}
	return 0;
}

int metrics_endpoint_open(const struct metrics_endpoint_options *options, struct metrics_endpoint **ret, char *message)
{
	struct metrics_endpoint *endpoint = calloc(1, sizeof *endpoint);
	int r = -ENOMEM;

	raft_assert(options->path[0] != '\0' || options->host[0] != '\0');
	if (endpoint != NULL) {
		endpoint->options = *options;
		r = set_up(endpoint);
	}
	if (r == 0)
		r = start_listening(endpoint);
	if (r == 0) {
		*ret = endpoint;
		return 0;
	}
	if (options->path[0] != '\0')
		(void)snprintf(message, METRICS_MESSAGE_MAX, "cannot serve metrics at %s: %s", options->path,
			       strerror(-r));
	else
		(void)snprintf(message, METRICS_MESSAGE_MAX, "cannot serve metrics at %s, port %u: %s", options->host,
			       options->port, strerror(-r));
	metrics_endpoint_free(endpoint);
	return r;
}

struct metrics_endpoint *metrics_endpoint_free(struct metrics_endpoint *endpoint)
{
	if (endpoint == NULL)
		return NULL;
	endpoint->listener = NULL; /* goes with the server, and so do its connections */
	if (endpoint->http != NULL)
		evhttp_free(endpoint->http);
	for (unsigned k = 0; k < METRICS_CONNECTIONS_MAX; k++) {
		struct connection *connection = &endpoint->connections[k];
		if (connection->stream != NULL)
			release(connection);
		if (connection->tick != NULL)
			event_free(connection->tick);
	}
	if (endpoint->forget != NULL)
		event_free(endpoint->forget);
	if (endpoint->path[0] != '\0')
		(void)unlink(endpoint->path); /* gone already: fine */
	free(endpoint->rendered);
	free(endpoint);
	return NULL;
}

void metrics_endpoint_get_stats(const struct metrics_endpoint *endpoint, struct metrics_endpoint_stats *ret_stats)
{
	*ret_stats = endpoint->stats;
}
