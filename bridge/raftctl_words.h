/*
 * Prints words in the grammar of the line protocol, so that what raftctl shows can be given to the bridge.
 */
#ifndef RAFTCTL_WORDS_H
#define RAFTCTL_WORDS_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct ctl_words {
	FILE *file;
	uint8_t *buf; /* room for the longest word, written */
};

/* 0, or -ENOMEM after saying so. Errors of the file are the caller's to look for (ferror), once. */
int ctl_words_init(struct ctl_words *words, FILE *file) __attribute__((warn_unused_result));
void ctl_words_fini(struct ctl_words *words); /* leaves the file open */
void ctl_words_write(struct ctl_words *words, const uint8_t *data, size_t size);

#endif
