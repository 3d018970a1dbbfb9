import { copyFileSync, linkSync, mkdirSync } from 'node:fs';
import { basename, join } from 'node:path';
import { withPort } from './address.ts';
import { type CgroupLayout, cgroupFolders, createCgroup } from './cgroup.ts';
import { ownCommand } from './own-command.ts';
import { diskDirectory, stateDirectory } from './paths.ts';
import type { ClusterPlan, LabPlan } from './plan.ts';
import { startDetached } from './process.ts';
import { serveImages } from './registry.ts';

/** The lab's registry: one process in the router's namespace, where every node reaches it at its gateway. */
const port = 5000;

/** Starts it over these archives. It ends with the lab's cgroup, and nobody waits for it: kubelet asks again. */
export async function startRegistry(
  layout: CgroupLayout,
  plan: LabPlan,
  archives: readonly string[],
): Promise<void> {
  const folder = archiveFolder(plan.name);
  mkdirSync(folder, { recursive: true });
  for (const archive of archives) {
    try {
      linkSync(archive, join(folder, basename(archive)));
    } catch {
      copyFileSync(archive, join(folder, basename(archive)));
    }
  }
  const cgroup = `${plan.cgroup}/registry`;
  createCgroup(layout, cgroup);
  const enter = cgroupFolders(layout, cgroup)
    .map(each => `echo $$ > ${each}/cgroup.procs`)
    .join(' && ');
  const command = ownCommand('lab', 'registry', folder);
  const inRouter = ['nsenter', `--net=/run/netns/${plan.router.namespace}`, ...command];
  const log = join(stateDirectory(plan.name), 'registry.log');
  await startDetached('/bin/sh', ['-c', `${enter} && exec "$@"`, 'sh', ...inRouter], { log });
}

/** The process itself: serves until it is killed. */
export function runRegistry(folder: string): void {
  serveImages(folder).listen(port);
}

/** Has the registry know the images of one more archive. */
export function addArchive(lab: string, file: string): void {
  // A copy, because the user may write another image into the same file.
  copyFileSync(
    file,
    join(archiveFolder(lab), `${Date.now()}-${basename(file).replace(/(\.tar)?$/, '.tar')}`),
  );
}

function archiveFolder(lab: string): string {
  return join(diskDirectory(lab), 'images');
}

/** containerd's hosts.toml for every registry there is. */
export function registryHosts(cluster: ClusterPlan): string {
  const url = `http://${withPort(cluster.ipFamily === 'ipv6' ? cluster.gateway6 : cluster.gateway, port)}`;
  return `server = "${url}"\n\n[host."${url}"]\n  capabilities = ["pull", "resolve"]`;
}
