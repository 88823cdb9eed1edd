/*
 * The clients of one member (bridges, raftctl) and the replies that gather for them during one turn of the loop: one
 * frame a client and turn, however many replies. A client is remembered only while it waits for something.
 *
 * What this must not know: what requests mean, Raft, the store.
 */
#ifndef RAFT_KV_CLIENTS_H
#define RAFT_KV_CLIENTS_H

#include "daemon/transport/zmq_socket.h"
#include "kv/request.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CLIENTS_MAX 1024u /* waiting at the same time; more are told to come back */

struct client {
	bool used;
	bool dirty;   /* has replies to be sent */
	bool blocked; /* its queue was full at the last try: the frame waits, and nothing large is added to it */
	struct zmq_identity identity;
	uint32_t waiting; /* requests not answered yet */
	struct kv_frame frame;
};

struct clients {
	struct zmq_socket *socket; /* not owned */
	uint64_t cluster;
	uint64_t term;		 /* put into every reply; the owner keeps it current */
	uint64_t dropped_frames; /* replies that could not be sent: the client is gone or does not read */
	unsigned n_slots;	 /* slots ever used: bounds the search */
	struct client slots[CLIENTS_MAX];
};

/* The client with this identity, new if need be; NULL when CLIENTS_MAX wait. */
struct client *clients_find(struct clients *clients, const struct zmq_identity *identity);

/* A request of this client will be answered later: keeps it. */
void clients_hold(struct client *client);

/* Answers a request. held: it was announced with clients_hold. */
void clients_answer(struct clients *clients, struct client *client, uint64_t id, const struct kv_answer_body *answer,
		    bool held);

/* The same with an empty body. */
void clients_answer_plain(struct clients *clients, struct client *client, uint64_t id, enum kv_answer answer,
			  uint64_t number, bool held);

/* Room for a reply of size bytes of data, to be filled by the caller: a page need not be copied. NULL: no memory. */
uint8_t *clients_answer_data(struct clients *clients, struct client *client, uint64_t id, uint32_t size);

/* Sends what has gathered; forgets clients that wait for nothing. Call at the end of a turn. True: a client's queue is full
 * and its frame is still here; call again soon. */
bool clients_flush(struct clients *clients);

void clients_free(struct clients *clients);

#endif
