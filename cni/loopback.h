/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * containerd runs a plugin named `loopback` for every pod, which a bare node may lack: run under that name
 * we are it. Needs no agent. `version` is the configuration's. Prints the result; returns the exit status.
 */
int loopback(const char *command, const char *netns, const char *version);
