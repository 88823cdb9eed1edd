/*
 * Reads a history from a text file (the format is in README.md) and feeds it to a checker. It must not know how histories are
 * checked.
 */
#ifndef RAFT_KV_LIN_HISTORY_FILE_H
#define RAFT_KV_LIN_HISTORY_FILE_H

#include "tests/linearizability/linearizability.h"

#define LIN_MESSAGE_SIZE 200u

/* 0, or -1 and a message that names the line. */
int lin_read(FILE *file, struct lin_checker *checker, char message[LIN_MESSAGE_SIZE])
	__attribute__((warn_unused_result));

/* The same format: one line each. */
void lin_write_call(const struct lin_call *call, FILE *file);
void lin_write_return(uint64_t client, const struct lin_return *outcome, enum lin_kind kind, FILE *file);

#endif
