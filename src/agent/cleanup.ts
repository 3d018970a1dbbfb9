/** Takes Isthmus off a node: what an uninstall leaves is what was there before. */
import { readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { FilterPins } from '../datapath/filter-pins.ts';
import { changeLink, deleteLink, type Link, listLinks } from '../datapath/link.ts';
import { Netlink } from '../datapath/netlink.ts';
import { deleteRoute, listRoutes, PROTOCOL_ISTHMUS } from '../datapath/route.ts';
import { type CniPaths, uninstallPlugin } from './cni-config.ts';
import { removeDevices } from './devices.ts';
import { isHostInterfaceName } from './endpoint.ts';

export interface CleanOptions {
  /** Where the bpffs is mounted, /sys/fs/bpf: our folder `isthmus` in it goes. */
  readonly bpffs: string;
  readonly cniPaths: CniPaths;
  /**
   * Pods that still run keep their devices, down, and their file, so that they are connected again when
   * Isthmus comes back; a pod's device goes with the pod. False: everything goes, such pods must be made
   * anew. Default true.
   */
  readonly keepPods?: boolean;
}

/**
 * Removes configuration, programs, maps, routes, devices and files, in this order: first no new pod comes,
 * then nothing is filtered or translated, then the ways go. Goes on after a failure; `failed` says of what.
 * Call it when nothing of the agent writes any more.
 */
export function cleanNode(options: CleanOptions): {
  readonly devices: boolean;
  readonly failed: readonly string[];
} {
  const keepPods = options.keepPods ?? true;
  const { runFolder } = options.cniPaths;
  const failed: string[] = [];
  let devices = false;
  using netlink = new Netlink();
  const step = (what: string, work: () => void): void => {
    try {
      work();
    } catch (error) {
      failed.push(`${what}: ${error instanceof Error ? error.message : String(error)}`);
    }
  };

  step('CNI plugin', () => uninstallPlugin(options.cniPaths));
  // Down before the programs go: no pod is let through unfiltered.
  step('devices of pods', () => {
    for (const link of podDevices(netlink)) changeLink(netlink, link.index, { up: false });
  });
  step('programs', () => rmSync(join(options.bpffs, 'isthmus/links'), { recursive: true, force: true }));
  step('filters', () => {
    using filters = new FilterPins(join(options.bpffs, 'isthmus/filters'));
    filters.detachAll();
  });
  step('maps', () => rmSync(join(options.bpffs, 'isthmus'), { recursive: true, force: true }));
  step('routes', () => removeRoutes(netlink));
  step('devices', () => {
    devices = removeDevices(netlink);
  });
  if (!keepPods)
    step('devices of pods', () => {
      for (const link of podDevices(netlink)) deleteLink(netlink, link.index);
    });
  step('files', () => {
    const kept = keepPods && podDevices(netlink).length > 0 ? 'endpoints' : '';
    for (const name of readdirSync(runFolder))
      if (name !== kept) rmSync(join(runFolder, name), { recursive: true, force: true });
  });
  return { devices, failed };
}

const podDevices = (netlink: Netlink): Link[] =>
  listLinks(netlink).filter(link => link.kind === 'veth' && isHostInterfaceName(link.name));

function removeRoutes(netlink: Netlink): void {
  for (const { prefix, table, ifindex, metric } of listRoutes(netlink, { protocol: PROTOCOL_ISTHMUS }))
    deleteRoute(netlink, { prefix, table, ifindex, ...(metric !== undefined && { metric }) });
}
