import { closeSync, openSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { CGROUP_PROGRAMS, type Datapath } from '../datapath/object.ts';
import type { Devices } from './devices.ts';
import type { EndpointPrograms } from './endpoints.ts';
import type { Uplink } from './uplink.ts';

export interface AttachOptions {
  readonly datapath: Datapath;
  readonly devices: Devices;
  readonly uplinks: readonly Uplink[];
  /** Folder of the node's cgroup v2 hierarchy. */
  readonly cgroup: string;
}

/**
 * Puts the programs where packets and sockets of this node pass; pods' own devices are done as they come.
 * What is attached already goes on with the new program, without an instant between. Links to uplinks that
 * are none any more go.
 */
export function attachPrograms({ datapath, devices, uplinks, cgroup }: AttachOptions): void {
  datapath.attachDevice('from_overlay', devices.vxlan.index, 'ingress', 'from_overlay');
  datapath.attachDevice('from_host', devices.host.index, 'egress', 'from_host');
  const wanted = new Set<string>();
  for (const { name, ifindex } of uplinks) {
    const [from, to] = [`from_netdev_${name}`, `to_netdev_${name}`];
    datapath.attachDevice('from_netdev', ifindex, 'ingress', from);
    datapath.attachDevice('to_netdev', ifindex, 'egress', to);
    wanted.add(from).add(to);
  }
  for (const pin of datapath.pinned())
    if (/^(from|to)_netdev_/.test(pin) && !wanted.has(pin)) datapath.detach(pin);
  for (const program of CGROUP_PROGRAMS) datapath.attachCgroup(program, cgroup);
}

/** Programs for pods' devices that are put on only once the maps they read are filled. */
export interface DeferredPrograms extends EndpointPrograms {
  /** Puts on what has been asked for until now; from then on everything is put on at once. */
  release(onError: (pinName: string, error: unknown) => void): void;
}

/**
 * What runs on the devices of pods that are there already stays until `release`: where an upgrade has
 * changed the layout of maps, the new programs would find nothing in theirs.
 */
export function deferPrograms(datapath: EndpointPrograms): DeferredPrograms {
  let waiting: Map<string, () => void> | undefined = new Map();
  return {
    attachDevice(program, ifindex, direction, pinName) {
      const attach = (): void => datapath.attachDevice(program, ifindex, direction, pinName);
      if (waiting) waiting.set(pinName, attach);
      else attach();
    },
    attachNewDevice: (...of) => datapath.attachNewDevice(...of),
    detach(pinName) {
      waiting?.delete(pinName);
      datapath.detach(pinName);
    },
    pinned: () => datapath.pinned(),
    release(onError) {
      const due = waiting;
      waiting = undefined;
      for (const [pinName, attach] of due ?? [])
        try {
          attach();
        } catch (error) {
          onError(pinName, error);
        }
    },
  };
}

/**
 * The node's cgroup v2 folder below `root`, the node's /sys/fs/cgroup as this process sees it: the folder
 * itself, or the mount inside it where the node still has version 1 beside version 2.
 */
export function cgroup2Folder(root: string): string {
  const mounts = parseMounts(readFileSync('/proc/self/mountinfo', 'utf8'));
  const below = mounts
    .filter(({ type, path }) => type === 'cgroup2' && (path === root || path.startsWith(`${root}/`)))
    .sort((a, b) => a.path.length - b.path.length);
  const found = below[0]?.path;
  if (found === undefined)
    throw new Error(
      `${root}: no cgroup2 filesystem is mounted there or below it, so sockets cannot be hooked`,
    );
  // Says at once, and by name, when the mount cannot be used.
  closeSync(openSync(join(found, 'cgroup.controllers'), 'r'));
  return found;
}

/** Mount point and type of each line of mountinfo (proc_pid_mountinfo(5)). */
export function parseMounts(text: string): { readonly path: string; readonly type: string }[] {
  return text.split('\n').flatMap(line => {
    const [left = '', right = ''] = line.split(' - ');
    const path = left.split(' ')[4];
    const type = right.split(' ')[0];
    if (!path || !type) return [];
    return [
      {
        path: path.replace(/\\(\d{3})/g, (_, octal: string) => String.fromCharCode(parseInt(octal, 8))),
        type,
      },
    ];
  });
}
