/*
 * Frames between clients and members, as kv/request.h describes them: protocol.c makes and reads them for clients, operator.c
 * for operators. Nobody else includes it.
 */
#ifndef RAFT_KV_SIM_PROTOCOL_H
#define RAFT_KV_SIM_PROTOCOL_H

#include "sim.h"

#include "kv/request.h"

/* Completes the frame, which may be damaged on its way then. False: whoever gets it refuses it. */
bool sim_protocol_send(struct sim *sim, struct kv_frame *frame, uint8_t kind);
/* Where it arrives. Fails the run when it cannot be read, or could be read by somebody else. */
void sim_protocol_read(struct sim *sim, const struct kv_frame *frame, uint8_t kind, struct kv_frame_reader *ret_reader);

#endif
