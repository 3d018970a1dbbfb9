import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import * as z from 'zod';
import { stateRoot } from './paths.ts';
import { labNames } from './state.ts';

/**
 * Settings of this machine that labs change: limits that six nodes on one kernel need raised, and what every
 * kubelet sets for itself. Their values before the first lab are kept, and put back after the last.
 */
const raised: readonly (readonly [string, number])[] = [
  ['fs/inotify/max_user_instances', 8192],
  ['fs/inotify/max_user_watches', 524288],
  ['kernel/keys/maxkeys', 20000],
  ['kernel/keys/maxbytes', 2000000],
];
const setByKubelet = [
  'vm/overcommit_memory',
  'vm/panic_on_oom',
  'kernel/panic',
  'kernel/panic_on_oops',
  'kernel/keys/root_maxkeys',
  'kernel/keys/root_maxbytes',
];

/**
 * Folders that every machine has and pods mount, kube-proxy's and Cilium's among them. Nodes see this machine's
 * /usr and may not write there, so that one which is missing here has to be made here.
 */
const folders = ['/lib/modules'];

const file = join(stateRoot, 'host-settings.json');
const saved = z.record(z.string(), z.string());
const foldersFile = join(stateRoot, 'host-folders.json');
const madeFolders = z.array(z.string());

/** Keeps the machine's settings and raises those that are too low. Called before a lab's first process. */
export function prepareHost(): void {
  mkdirSync(stateRoot, { recursive: true });
  if (!existsSync(file)) {
    const before: Record<string, string> = {};
    for (const name of [...raised.map(([each]) => each), ...setByKubelet]) {
      const value = read(name);
      if (value !== undefined) before[name] = value;
    }
    writeFileSync(file, JSON.stringify(before));
  }
  for (const [name, least] of raised) {
    const value = read(name);
    if (value !== undefined && Number(value) < least) write(name, String(least));
  }
  const missing = folders.filter(folder => !existsSync(folder));
  if (missing.length === 0) return;
  writeFileSync(foldersFile, JSON.stringify(missing));
  for (const folder of missing) mkdirSync(folder, { recursive: true });
}

/** Puts the settings back when no lab is left. */
export function restoreHost(): void {
  if (labNames().length > 0) return;
  if (existsSync(foldersFile)) {
    for (const folder of madeFolders.parse(JSON.parse(readFileSync(foldersFile, 'utf8'))))
      removeEmpty(folder);
    rmSync(foldersFile);
  }
  if (!existsSync(file)) return;
  for (const [name, value] of Object.entries(saved.parse(JSON.parse(readFileSync(file, 'utf8')))))
    if (read(name) !== value) write(name, value);
  rmSync(file);
}

function removeEmpty(folder: string): void {
  // What somebody has put there since is theirs.
  if (existsSync(folder) && readdirSync(folder).length === 0) rmdirSync(folder);
}

function read(name: string): string | undefined {
  const path = `/proc/sys/${name}`;
  return existsSync(path) ? readFileSync(path, 'utf8').trim() : undefined;
}

function write(name: string, value: string): void {
  try {
    writeFileSync(`/proc/sys/${name}`, value);
  } catch (error) {
    // A machine that forbids it keeps its own value; what then does not fit says so itself.
    if (
      !(
        error instanceof Error &&
        'code' in error &&
        (error.code === 'EACCES' || error.code === 'EPERM' || error.code === 'EROFS')
      )
    )
      throw error;
  }
}
