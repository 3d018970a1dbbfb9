import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Failure } from '../failure.ts';
import { waitFor } from './process.ts';

/** One cgroup v1 hierarchy of this machine. */
export interface CgroupHierarchy {
  /** Folder name below /sys/fs/cgroup, such as `cpu` or `systemd`. */
  readonly directory: string;
  /** Options that mount the same hierarchy again, such as `cpu,cpuacct` or `none,name=systemd`. */
  readonly mountOptions: string;
}

/** How this machine mounts cgroups: `unified` alone (v2), or v1 hierarchies with v2 beside them (hybrid). */
export interface CgroupLayout {
  readonly v1: readonly CgroupHierarchy[];
  /** Absolute path of the cgroup2 mount. */
  readonly v2: string;
}

const root = '/sys/fs/cgroup';

/** Reads the layout from the text of /proc/self/mountinfo. Throws Failure where there is no cgroup2 mount. */
export function cgroupLayout(mountinfo = readFileSync('/proc/self/mountinfo', 'utf8')): CgroupLayout {
  const v1: CgroupHierarchy[] = [];
  let v2: string | undefined;
  for (const line of mountinfo.split('\n')) {
    const [before, after] = line.split(' - ');
    const mountPoint = before?.split(' ')[4];
    const [type, , superOptions] = after?.split(' ') ?? [];
    if (mountPoint === undefined || !(mountPoint === root || mountPoint.startsWith(`${root}/`))) continue;
    if (type === 'cgroup2') v2 ??= mountPoint;
    if (type === 'cgroup') {
      const controllers = (superOptions ?? '')
        .split(',')
        .filter(option => !['rw', 'ro', 'xattr', 'clone_children', 'noprefix'].includes(option))
        .filter(option => !option.startsWith('release_agent='));
      const named = controllers.some(option => option.startsWith('name='));
      v1.push({
        directory: mountPoint.slice(root.length + 1),
        mountOptions: [...(named ? ['none'] : []), ...controllers].join(','),
      });
    }
  }
  if (v2 === undefined) {
    throw new Failure('this machine has no cgroup2 mount below /sys/fs/cgroup', {
      hint: 'mount it with: mkdir -p /sys/fs/cgroup/unified && mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified',
    });
  }
  return { v1, v2 };
}

/** True where there are no v1 hierarchies, so that a cgroup with children may hold no process of its own. */
export function isUnified(layout: CgroupLayout): boolean {
  return layout.v1.length === 0;
}

/** The folders of one cgroup, in every hierarchy. `path` is relative, such as `isthmus-lab/isthmus/us-worker`. */
export function cgroupFolders(layout: CgroupLayout, path: string): string[] {
  return [...layout.v1.map(hierarchy => join(root, hierarchy.directory, path)), join(layout.v2, path)];
}

/** Makes a cgroup in every hierarchy, with all controllers usable inside. */
export function createCgroup(layout: CgroupLayout, path: string): void {
  const parts = path.split('/');
  for (const hierarchy of layout.v1) {
    const top = join(root, hierarchy.directory);
    for (let depth = 1; depth <= parts.length; depth++) {
      const folder = join(top, ...parts.slice(0, depth));
      mkdirSync(folder, { recursive: true });
      // A new cpuset is empty, and nothing can run in it.
      for (const file of ['cpuset.cpus', 'cpuset.mems']) {
        const inherited = join(folder, '..', file);
        if (!existsSync(inherited)) continue;
        if (readFileSync(join(folder, file), 'utf8').trim() === '')
          writeFileSync(join(folder, file), readFileSync(inherited));
      }
    }
  }
  let folder = layout.v2;
  for (const part of parts) {
    if (isUnified(layout)) enableControllers(folder);
    folder = join(folder, part);
    mkdirSync(folder, { recursive: true });
  }
}

/** Gives a cgroup2's children every controller that it has itself. */
export function enableControllers(folder: string): void {
  const available = readFileSync(join(folder, 'cgroup.controllers'), 'utf8').trim().split(' ');
  const enabled = readFileSync(join(folder, 'cgroup.subtree_control'), 'utf8').trim().split(' ');
  for (const controller of available) {
    if (controller === '' || enabled.includes(controller)) continue;
    try {
      writeFileSync(join(folder, 'cgroup.subtree_control'), `+${controller}`);
    } catch {
      // Some controllers cannot be delegated (cpu with realtime processes); kubelet names what it misses.
    }
  }
}

/** Processes of the cgroup itself, or of it and all below. */
export function cgroupProcesses(layout: CgroupLayout, path: string, below: boolean): number[] {
  const found: number[] = [];
  const visit = (folder: string): void => {
    try {
      const text = readFileSync(join(folder, 'cgroup.procs'), 'utf8');
      for (const line of text.split('\n')) if (line !== '') found.push(Number(line));
      if (!below) return;
      for (const entry of readdirSync(folder, { withFileTypes: true }))
        if (entry.isDirectory()) visit(join(folder, entry.name));
    } catch (error) {
      // A cgroup may go while it is read.
      if (!isGone(error)) throw error;
    }
  };
  visit(join(layout.v2, path));
  return found;
}

/** Kills every process in the cgroup and below, and waits until none is left. */
export async function killCgroup(layout: CgroupLayout, path: string): Promise<void> {
  const folder = join(layout.v2, path);
  if (!existsSync(folder)) return;
  thawCgroup(layout, path);
  await waitFor(
    () => {
      try {
        writeFileSync(join(folder, 'cgroup.kill'), '1');
        return /^populated 0$/m.test(readFileSync(join(folder, 'cgroup.events'), 'utf8')) ? true : undefined;
      } catch (error) {
        if (isGone(error)) return true;
        throw error;
      }
    },
    {
      timeout: 20_000,
      interval: 10,
      late: () =>
        new Failure(
          `processes in cgroup ${folder} do not end: ${cgroupProcesses(layout, path, true).join(' ')}`,
        ),
    },
  );
}

/** Removes an empty cgroup and all below it, in every hierarchy. */
export async function removeCgroup(layout: CgroupLayout, path: string): Promise<void> {
  for (const folder of cgroupFolders(layout, path)) {
    await waitFor(() => (removeTree(folder) ? true : undefined), {
      timeout: 10_000,
      interval: 10,
      late: () => new Failure(`cgroup ${folder} cannot be removed: it is still in use`),
    });
  }
}

export function freezeCgroup(layout: CgroupLayout, path: string): void {
  writeFileSync(join(layout.v2, path, 'cgroup.freeze'), '1');
}

export function thawCgroup(layout: CgroupLayout, path: string): void {
  const file = join(layout.v2, path, 'cgroup.freeze');
  if (existsSync(file)) writeFileSync(file, '0');
}

function removeTree(folder: string): boolean {
  let entries: string[];
  try {
    entries = readdirSync(folder, { withFileTypes: true })
      .filter(entry => entry.isDirectory())
      .map(entry => entry.name);
  } catch (error) {
    if (isGone(error)) return true;
    throw error;
  }
  for (const name of entries) if (!removeTree(join(folder, name))) return false;
  try {
    rmdirSync(folder);
    return true;
  } catch (error) {
    if (isGone(error)) return true;
    // A process that has just died leaves its cgroup a moment later.
    if (error instanceof Error && 'code' in error && error.code === 'EBUSY') return false;
    throw error;
  }
}

function isGone(error: unknown): boolean {
  return error instanceof Error && 'code' in error && (error.code === 'ENOENT' || error.code === 'ENODEV');
}
