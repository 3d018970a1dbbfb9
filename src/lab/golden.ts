import { createHash } from 'node:crypto';
import {
  existsSync,
  mkdirSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { cacheFolder } from '../cache.ts';
import { Failure } from '../failure.ts';
import { type CgroupLayout, cgroupFolders, createCgroup, killCgroup, removeCgroup } from './cgroup.ts';
import { containerdConfig } from './containerd-config.ts';
import { run, startDetached, waitFor } from './process.ts';

/**
 * The golden store: a folder of containerd with images imported and unpacked, made once for a set of
 * archives. A node's disk begins as hard links to it, so that a lab does not unpack the same layers six
 * times at every start.
 */

/** Stores that are kept besides the one asked for: a developer goes back and forth between images. */
const keptStores = 6;

/**
 * The golden store of these image archives, made when it is not there: that of all but the last with the last
 * added, so that what changes often should come last. `cgroup` is where the containerd that makes it runs,
 * so that it ends with the lab.
 */
export async function goldenStore(
  layout: CgroupLayout,
  cgroup: string,
  archives: readonly string[],
): Promise<{ readonly path: string; readonly made: boolean }> {
  const folder = cacheFolder('golden');
  const key = storeKey(archives);
  const path = join(folder, key);
  mkdirSync(folder, { recursive: true });
  await waitFor(() => (existsSync(path) || !isBeingMade(folder, key) ? true : undefined), {
    timeout: 120_000,
    interval: 100,
    late: () => new Failure(`another lab does not finish unpacking images in ${folder}`),
  });
  if (existsSync(path)) {
    // The time of last use decides which stores go.
    utimesSync(path, new Date(), new Date());
    return { path, made: false };
  }
  prune(folder);
  const [last, ...before] = archives.toReversed();
  if (last === undefined) throw new TypeError('a golden store needs an image archive');
  const base = before.length === 0 ? undefined : await goldenStore(layout, cgroup, before.toReversed());
  const fresh = `${path}.${process.pid}.new`;
  createCgroup(layout, cgroup);
  try {
    await fill(layout, cgroup, fresh, base?.path, last);
    // Two labs that began at the same moment both made one; they are alike.
    if (!existsSync(path)) renameSync(join(fresh, 'root'), path);
  } finally {
    await killCgroup(layout, cgroup);
    await removeCgroup(layout, cgroup);
    rmSync(fresh, { recursive: true, force: true });
  }
  return { path, made: true };
}

/** Makes a node's containerd folder of a golden store: layers are linked, databases copied. */
export async function cloneStore(store: string, target: string): Promise<void> {
  mkdirSync(target, { recursive: true });
  const databases = [
    'io.containerd.metadata.v1.bolt/meta.db',
    'io.containerd.snapshotter.v1.overlayfs/metadata.db',
  ].filter(file => existsSync(join(store, file)));
  try {
    await run('cp', ['-al', `${store}/.`, target]);
  } catch {
    // Another file system, or one without hard links.
    rmSync(target, { recursive: true, force: true });
    mkdirSync(target, { recursive: true });
    await run('cp', ['-a', `${store}/.`, target]);
    return;
  }
  for (const file of databases) {
    rmSync(join(target, file));
    await run('cp', ['-a', join(store, file), join(target, file)]);
  }
}

async function fill(
  layout: CgroupLayout,
  cgroup: string,
  folder: string,
  base: string | undefined,
  archive: string,
): Promise<void> {
  const socket = join(folder, 'containerd.sock');
  const log = join(folder, 'containerd.log');
  mkdirSync(folder, { recursive: true });
  if (base !== undefined) await cloneStore(base, join(folder, 'root'));
  const configuration = `root = "${folder}/root"
state = "${folder}/state"
${containerdConfig}
[grpc]
  address = "${socket}"
`;
  writeFileSync(join(folder, 'config.toml'), configuration);
  const enter = cgroupFolders(layout, cgroup)
    .map(each => `echo $$ > ${each}/cgroup.procs`)
    .join(' && ');
  await startDetached(
    '/bin/sh',
    ['-c', `${enter} && exec unshare --mount --cgroup containerd --config ${folder}/config.toml`],
    { log },
  );
  const ctr = (...args: string[]): Promise<string> => run('ctr', ['-a', socket, '-n', 'k8s.io', ...args]);
  await waitFor(
    () =>
      ctr('version').then(
        () => true as const,
        () => undefined,
      ),
    {
      timeout: 20_000,
      interval: 50,
      late: () => new Failure(`containerd does not start, its log is ${log}`),
    },
  );
  await ctr('image', 'import', archive);
  // containerd's Kubernetes plugin marks every image as its own. Done here, it is not done on each node.
  await waitFor(
    async () => {
      const lines = (await ctr('image', 'ls')).trim().split('\n').slice(1);
      return lines.every(line => line.includes('io.cri-containerd.image=managed')) ? true : undefined;
    },
    { timeout: 20_000, interval: 50, late: () => new Failure(`images are not taken over, see ${log}`) },
  );
}

/** Archives are named by their content or change their time: no need to read hundreds of megabytes. */
function storeKey(archives: readonly string[]): string {
  const hash = createHash('sha256').update(containerdConfig);
  for (const archive of archives) {
    const { size, mtimeMs } = statSync(archive);
    hash.update(`${archive} ${size} ${mtimeMs}\n`);
  }
  return hash.digest('hex').slice(0, 16);
}

function isBeingMade(folder: string, key: string): boolean {
  return readdirSync(folder).some(name => {
    const [made, pid, end] = name.split('.');
    return end === 'new' && made === key && existsSync(`/proc/${pid}`);
  });
}

/** Removes what commands that were killed left of stores they were making. */
export function removeUnfinishedStores(): void {
  const folder = cacheFolder('golden');
  if (!existsSync(folder)) return;
  for (const name of readdirSync(folder)) {
    if (name.endsWith('.new') && !existsSync(`/proc/${name.split('.')[1]}`))
      rmSync(join(folder, name), { recursive: true, force: true });
  }
}

function prune(folder: string): void {
  removeUnfinishedStores();
  const stores = readdirSync(folder)
    .filter(name => !name.endsWith('.new'))
    .map(name => ({ name, used: statSync(join(folder, name)).mtimeMs }))
    .sort((a, b) => b.used - a.used);
  for (const { name } of stores.slice(keptStores))
    rmSync(join(folder, name), { recursive: true, force: true });
}
