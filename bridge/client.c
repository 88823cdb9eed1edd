/* See client.h: accepting, watching and ending connections. */
#include "bridge/client_internal.h"

#include "daemon/assert.h"
#include "daemon/service/service.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define ACCEPTS_PER_TURN 64u
#define ACCEPT_PAUSE_US 100000 /* when descriptors or memory are short: a listening socket stays readable */

static const char too_many_text[] = "ERR busy too many connections; close some, or raise connections_max\n";

/* Lists ------------------------------------------------------------------------------------------------ */

void client_mark_ready(struct client *client)
{
	struct clients *clients = client->clients;
	if (client->dead || client->list == LIST_READY)
		return;
	if (client->list == LIST_STARVED)
		TAILQ_REMOVE(&clients->starved, client, waiting);
	client->list = LIST_READY;
	TAILQ_INSERT_TAIL(&clients->ready, client, waiting);
}

void client_mark_dirty(struct client *client)
{
	if (client->is_dirty)
		return;
	client->is_dirty = true;
	TAILQ_INSERT_TAIL(&client->clients->dirty, client, dirty);
}

static void unlist(struct client *client)
{
	struct clients *clients = client->clients;
	switch ((enum client_list)client->list) {
	case LIST_NONE:
		break;
	case LIST_READY:
		TAILQ_REMOVE(&clients->ready, client, waiting);
		break;
	case LIST_STARVED:
		TAILQ_REMOVE(&clients->starved, client, waiting);
		break;
	}
	client->list = LIST_NONE;
}

/* Connections ------------------------------------------------------------------------------------------ */

static void on_client(evutil_socket_t fd, short what, void *arg)
{
	struct client *client = arg;
	raft_assert(client->fd == fd);
	if ((what & EV_READ) != 0)
		client_readable(client);
	if ((what & EV_WRITE) != 0)
		client_mark_dirty(client);
}

void client_watch(struct client *client, short what)
{
	if (client->watched == what || client->dead)
		return;
	if (client->watched != 0)
		event_del(&client->event);
	client->watched = 0;
	if (what == 0)
		return;
	if (event_assign(&client->event, client->clients->options.base, client->fd, (short)(what | EV_PERSIST),
			 on_client, client) < 0 ||
	    event_add(&client->event, NULL) < 0) {
		client_kill(client);
		return;
	}
	client->watched = what;
}

void client_kill(struct client *client)
{
	if (client->dead)
		return;
	if (client->watched != 0)
		event_del(&client->event);
	client->watched = 0;
	client->dead = true;
	client_mark_dirty(client);
}

bool client_is_finished(const struct client *client)
{
	if (client->out.len > 0 || client->head != NULL || client->held != NULL)
		return false;
	return client->quitting || (client->eof && client->in.len == 0);
}

static void leave_requests(struct client *client)
{
	struct session *session = client->clients->options.session;
	while (client->head != NULL) {
		struct request *request = client->head;
		client->head = request->next;
		request->next = NULL;
		request->client = NULL;
		session_leave(session, request);
	}
	if (client->held != NULL)
		session_leave(session, client->held); /* it never was in the session: this frees it */
}

static void client_free(struct client *client)
{
	struct clients *clients = client->clients;
	client_kill(client);
	leave_requests(client);
	unlist(client);
	if (client->is_dirty)
		TAILQ_REMOVE(&clients->dirty, client, dirty);
	TAILQ_REMOVE(&clients->all, client, all);
	raft_assert(clients->n > 0);
	clients->n--;
	if (client->in.capacity > SHARED_REST_MAX)
		clients->input_bytes -= client->in.capacity;
	clients->output_bytes -= client->out.capacity;
	buffer_release(clients->options.pool, &client->in);
	buffer_release(clients->options.pool, &client->out);
	close(client->fd);
	free(client);
}

static void client_new(struct clients *clients, int fd)
{
	struct client *client = calloc(1, sizeof *client);
	if (client == NULL) {
		close(fd);
		return;
	}
	client->clients = clients;
	client->fd = fd;
	TAILQ_INSERT_TAIL(&clients->all, client, all);
	clients->n++;
	clients->accepted++;
	client_watch(client, EV_READ);
}

/* Accepting -------------------------------------------------------------------------------------------- */

static void on_accept_again(evutil_socket_t fd, short what, void *arg)
{
	struct clients *clients = arg;
	(void)fd;
	(void)what;
	if (!clients->stopping)
		event_add(&clients->listener, NULL);
}

static void pause_accepting(struct clients *clients, int error)
{
	const struct timeval pause = {.tv_usec = ACCEPT_PAUSE_US};
	service_log(4, "accept-failed", "cannot accept a connection: %s; trying again in %d ms (%u are open)",
		    strerror(error), ACCEPT_PAUSE_US / 1000, clients->n);
	event_del(&clients->listener);
	event_add(&clients->accept_again, &pause);
}

static void on_listener(evutil_socket_t listen_fd, short what, void *arg)
{
	struct clients *clients = arg;
	(void)what;
	for (unsigned k = 0; k < ACCEPTS_PER_TURN; k++) {
		int fd = accept4(listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd < 0 && (errno == EINTR || errno == ECONNABORTED))
			continue;
		if (fd < 0) {
			if (errno != EAGAIN && errno != EWOULDBLOCK)
				pause_accepting(clients, errno);
			return;
		}
		if (clients->n < clients->options.connections_max) {
			client_new(clients, fd);
			continue;
		}
		service_log(4, "too-many-connections", "refused a connection: connections_max (%u) are open",
			    clients->options.connections_max);
		(void)send(fd, too_many_text, sizeof too_many_text - 1, MSG_NOSIGNAL | MSG_DONTWAIT); /* a courtesy */
		close(fd);
	}
}

int clients_new(const struct clients_options *options, struct clients **ret_clients)
{
	struct clients *clients = calloc(1, sizeof *clients);
	if (clients == NULL)
		return -ENOMEM;
	raft_assert(options->connections_max > 0 && options->listen_fd >= 0);
	clients->options = *options;
	TAILQ_INIT(&clients->all);
	TAILQ_INIT(&clients->ready);
	TAILQ_INIT(&clients->starved);
	TAILQ_INIT(&clients->dirty);
	clients->shared = malloc(SHARED_SIZE);
	if (clients->shared == NULL ||
	    event_assign(&clients->listener, options->base, options->listen_fd, EV_READ | EV_PERSIST, on_listener,
			 clients) < 0 ||
	    event_assign(&clients->accept_again, options->base, -1, EV_TIMEOUT, on_accept_again, clients) < 0 ||
	    event_add(&clients->listener, NULL) < 0) {
		free(clients->shared);
		free(clients);
		return -ENOMEM;
	}
	*ret_clients = clients;
	return 0;
}

struct clients *clients_free(struct clients *clients)
{
	if (clients == NULL)
		return NULL;
	while (!TAILQ_EMPTY(&clients->all))
		client_free(TAILQ_FIRST(&clients->all));
	raft_assert(clients->n == 0 && clients->input_bytes == 0 && clients->output_bytes == 0);
	event_del(&clients->listener);
	event_del(&clients->accept_again);
	free(clients->shared);
	free(clients);
	return NULL;
}

uint32_t clients_count(const struct clients *clients)
{
	return clients->n;
}

struct clients_stats clients_get_stats(const struct clients *clients)
{
	return (struct clients_stats){
		.connections = clients->n,
		.connections_max = clients->options.connections_max,
		.accepted = clients->accepted,
		.input_bytes = clients->input_bytes,
		.input_bytes_max = INPUT_BYTES_MAX,
		.output_bytes = clients->output_bytes,
		.output_bytes_max = OUTPUT_BYTES_MAX,
	};
}

/* Turns ------------------------------------------------------------------------------------------------ */

void clients_resume(struct clients *clients, uint64_t now_ms)
{
	struct client_queue ready = TAILQ_HEAD_INITIALIZER(ready);
	struct client *client;
	/* Those that become ready by this are left for the next turn: none can keep the others waiting. */
	TAILQ_CONCAT(&ready, &clients->ready, waiting);
	while ((client = TAILQ_FIRST(&ready)) != NULL) {
		TAILQ_REMOVE(&ready, client, waiting);
		client->list = LIST_NONE;
		client_continue(client, now_ms);
	}
	while ((client = TAILQ_FIRST(&clients->starved)) != NULL && session_has_room(clients->options.session)) {
		unlist(client);
		client_continue(client, now_ms);
	}
}

void clients_flush(struct clients *clients)
{
	struct client *client;
	while ((client = TAILQ_FIRST(&clients->dirty)) != NULL) {
		if (!client->dead)
			client_write(client);
		if (client->dead || client_is_finished(client)) {
			client_free(client);
			continue;
		}
		TAILQ_REMOVE(&clients->dirty, client, dirty);
		client->is_dirty = false;
	}
}

bool clients_pending(const struct clients *clients)
{
	return !TAILQ_EMPTY(&clients->ready) || !TAILQ_EMPTY(&clients->dirty);
}

void clients_stop(struct clients *clients)
{
	struct client *client;
	raft_assert(!clients->stopping);
	clients->stopping = true;
	event_del(&clients->listener);
	event_del(&clients->accept_again);
	TAILQ_FOREACH(client, &clients->all, all)
	{
		/* What the client has sent is still read, up to the end of input that follows it now. What it sends
		 * from here on fails at once, with EPIPE: it knows that nobody will execute it. */
		if (shutdown(client->fd, SHUT_RD) < 0)
			client_kill(client); /* it is gone already */
	}
}
