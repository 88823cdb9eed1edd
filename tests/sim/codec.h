/*
 * Frames between clients and members, and the bodies in them, when they are not what they should be: codec.c. Only those who make
 * them include it.
 */
#ifndef RAFT_KV_SIM_CODEC_H
#define RAFT_KV_SIM_CODEC_H

#include "sim.h"

enum sim_codec {
	SIM_CODEC_NONE, /* an empty body */
	SIM_CODEC_GET,
	SIM_CODEC_DUMP,
	SIM_CODEC_LOG,
	SIM_CODEC_TRANSFER,
	SIM_CODEC_CHANGE,
	SIM_CODEC_BACKUP,
	SIM_CODEC_COMMAND,
	SIM_CODEC_REPLY,
	SIM_CODEC_STATUS,
	SIM_CODEC_MEMBERSHIP,
	SIM_CODEC_DUMP_PAGE,
	SIM_CODEC_LOG_PAGE,
	SIM_CODEC_BACKUP_HEADER,
	SIM_CODEC_BEATS_REQUEST,
	SIM_CODEC_BEATS,
	SIM_CODEC_FRAME, /* whole, of any kind */
};

/* A client with a bug, or of another version, sends something like these bytes. Fails the run when it is taken for something
 * that would be written in another way. */
void sim_codec_distort(struct sim *sim, struct sim_random *random, enum sim_codec codec, const uint8_t *bytes, size_t size);

#endif
