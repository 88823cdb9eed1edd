/* Arbitrary bytes as a line: no crash, and every word that is read survives being written and read again. */
#include "bridge/line.h"

#include "daemon/assert.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_word(const struct line_word *word)
{
	struct line line;
	uint8_t *written = malloc(LINE_QUOTED_SIZE_MAX(word->size));
	raft_assert(written != NULL);
	size_t n = line_write_word(written, word->data, word->size);
	raft_assert(n == line_written_size(word->data, word->size) && n <= LINE_QUOTED_SIZE_MAX(word->size));
	raft_assert(memchr(written, '\n', n) == NULL);
	raft_assert(line_split(written, n, &line) == LINE_OK && line.n_words == 1);
	raft_assert(line.words[0].size == word->size && memcmp(line.words[0].data, word->data, word->size) == 0);
	free(written);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct line line;
	struct line_request request;
	struct line_problem problem;
	struct line_word whole = {data, size};
	uint8_t *copy = malloc(size > 0 ? size : 1);
	raft_assert(copy != NULL);
	if (size > 0)
		memcpy(copy, data, size);
	if (line_split(copy, size, &line) == LINE_OK)
		for (unsigned k = 0; k < line.n_words; k++)
			check_word(&line.words[k]);
	if (size > 0) {
		memcpy(copy, data, size);
		check_word(&whole);
	}
	if (line_parse(copy, size, &request, &problem) == LINE_REQUEST_OK)
		raft_assert(request.key.size <= KV_KEY_SIZE_MAX && request.value.size <= KV_VALUE_SIZE_MAX);
	free(copy);
	return 0;
}
