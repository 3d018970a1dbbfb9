/* SPDX-License-Identifier: Apache-2.0 */
/* Errors as the CNI specification wants them: JSON on standard output, exit status 1. */
#pragma once

#define CODE_INVALID_ENVIRONMENT 4
#define CODE_IO 5
#define CODE_TRY_AGAIN_LATER 11
#define CODE_NOT_AVAILABLE 50
#define CODE_KERNEL 101 /* from 100 on a plugin's own */

/* Prints a text in quotes. */
void print_json_text(const char *text);

/* Prints the error; returns the exit status. */
int print_error(const char *version, int code, const char *message, const char *details);
