/*
 * Strict parsers of single values that config.h does not show to others.
 *
 * What this must not know: files, sections, keys.
 */
#ifndef RAFT_KV_CONFIG_PARSE_H
#define RAFT_KV_CONFIG_PARSE_H

#include "daemon/config/config.h"

#include <stdbool.h>
#include <stdint.h>

/* sizeof(sun_path) less the NUL: the kernel's limit for every Unix socket. */
#define CONFIG_SOCKET_PATH_MAX 107u

/* "0660": one to four octal digits, at most max. */
bool config_parse_octal(const char *text, uint32_t max, uint32_t *ret);

/* 1 … CONFIG_NAME_MAX letters, digits, '-', '_', '.'. */
bool config_parse_name(const char *text);

/* Absolute, no control characters, at most max bytes, not ending in '/' unless it is "/". On false, *ret_why says what is
 * wrong. */
bool config_parse_path(const char *text, uint32_t max, const char **ret_why);

/* "off"; an absolute path; tcp://address:port with a loopback address, or any after "open-to-network ". %i stands for
 * the id; 0: there is none. On false, *ret_why says what is wrong. */
bool config_parse_listen(const char *text, uint64_t id, struct config_listen *ret, const char **ret_why);

/* A checked endpoint in the one spelling by which two that mean the same are equal: host names in lower case, IPv6
 * addresses shortened. */
void config_endpoint_normal(const char *text, char ret[CONFIG_ENDPOINT_MAX + 64]);

#endif
