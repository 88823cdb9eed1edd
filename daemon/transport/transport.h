/*
 * Frames to and from the other members, behind an interface that ZeroMQ (zmq_transport.c) and the simulated
 * network (tests/sim) both implement. Delivery is best effort: frames may be lost, and Raft repeats.
 *
 * What this must not know: Raft, what is in a frame, the disk.
 */
#ifndef RAFT_KV_TRANSPORT_H
#define RAFT_KV_TRANSPORT_H

#include "../entry.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct transport;

enum transport_event_type {
	TRANSPORT_FRAME,     /* data, len: a received frame; from whom is for its contents to say */
	TRANSPORT_PEER_UP,   /* a connection to peer was established */
	TRANSPORT_PEER_DOWN, /* an established connection to peer was closed */
};
struct transport_event {
	enum transport_event_type type;
	uint64_t peer;	     /* PEER_UP, PEER_DOWN */
	const uint8_t *data; /* FRAME: valid until the next transport_receive */
	size_t len;
};

struct transport_peer_stats {
	uint64_t id;
	bool connected;
	uint64_t sent_frames, sent_bytes;
	uint64_t dropped_frames;      /* queue full or not connected, or no memory */
	uint64_t dropped_unconnected; /* the second of these */
};

struct transport_ops {
	void (*close)(struct transport *transport);
	/* A buffer of len bytes to be filled and given to send; NULL when memory is short. */
	uint8_t *(*prepare)(struct transport *transport, size_t len);
	/* Sends the buffer that the last prepare returned to peer. Never blocks. 0, or -EAGAIN: dropped and counted. */
	int (*send)(struct transport *transport, uint64_t peer);
	/* Next event, never blocks: 1 and *ret_event, or 0 when there is none now. Must be called until it returns
	 * 0, or called again without waiting for fd (edge-triggered underneath). */
	int (*receive)(struct transport *transport, struct transport_event *ret_event);
	/* Descriptor to poll for reading (an epoll descriptor over all sockets), or -1. */
	int (*fd)(struct transport *transport);
	/* True when receive would return an event although fd may not become readable. Ask before sleeping. */
	bool (*pending)(struct transport *transport);
	bool (*peer_stats)(struct transport *transport, uint64_t peer, struct transport_peer_stats *ret);
	/* The membership changed. set_peer: from now on there is this peer at this endpoint (copied); one that is there
	 * already with the same endpoint is left alone, one with another is connected anew. remove_peer: frames to it are
	 * dropped from now on; an unknown one is fine. No events about it follow. Not between prepare and send. 0 or
	 * negative errno (-EINVAL, -EPROTONOSUPPORT: no endpoint; -E2BIG: more than TRANSPORT_PEERS_MAX). */
	int (*set_peer)(struct transport *transport, uint64_t peer, const char *endpoint);
	void (*remove_peer)(struct transport *transport, uint64_t peer);
};
struct transport {
	const struct transport_ops *ops; /* first member of every implementation */
};

#define TRANSPORT_ENDPOINT_MAX 200u /* characters of an endpoint */
/* Peers at a time: the members by the log, those of a configuration file that may name none of these, and one that only said itself
 * where it is. */
#define TRANSPORT_PEERS_MAX (2u * RAFT_MEMBERS_MAX + 1u)

struct transport_peer {
	uint64_t id;
	const char *endpoint; /* tcp://host:port, tcp://[v6]:port or ipc:///path */
};

/* ZeroMQ: binds one ROUTER to `listen` for receiving, connects one DEALER per peer for sending. Copies all
 * strings. ret_message (256 bytes): on failure what went wrong and with which endpoint. 0 or negative errno. */
int zmq_transport_open(const char *listen, const struct transport_peer *peers, unsigned n_peers,
		       struct transport **ret_transport, char *ret_message) __attribute__((warn_unused_result));

#endif
