import { createHash } from 'node:crypto';
import { constants } from 'node:fs';
import { access, mkdir, readdir, readFile, rename, rm } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { cacheFolder } from '../cache.ts';
import { packageRoot } from '../package-root.ts';
import { buildBinaries } from './binary-build.ts';
import { type BinaryName, type Component, componentOf } from './binary-catalog.ts';
import { downloadBinaries } from './binary-download.ts';

export type { BinaryName } from './binary-catalog.ts';

/**
 * One way to obtain executables of a component: puts those of `names` that can be had this way into `folder` and says
 * which they are. Throws when it fails.
 */
export type Obtain = (
  component: Component,
  version: string,
  names: readonly BinaryName[],
  folder: string,
  options: { readonly report: Report; readonly modules: string; readonly signal?: AbortSignal | undefined },
) => Promise<readonly BinaryName[]>;

export type Report = (line: string) => void;

export interface BinaryOptions {
  /** A folder of the user's whose executables are taken as they are. Default: `ISTHMUS_BINARIES`. */
  readonly folder?: string | undefined;
  /** Takes what a person waiting wants to read: what is done, and how far it is. */
  readonly report: Report;
  readonly signal?: AbortSignal;
  /** Other places than the usual, for tests. */
  readonly cache?: string;
  readonly modules?: string;
  readonly obtain?: readonly Obtain[];
}

/**
 * The paths of executables of the pinned versions. Each comes from the first of: the user's folder, the cache, the
 * project's published release (checksum verified), a build from its Go module.
 *
 * Throws if none works, with the reason of each.
 */
export async function ensureBinaries<Name extends BinaryName>(
  names: readonly Name[],
  options: BinaryOptions,
): Promise<Record<Name, string>> {
  const modules = options.modules ?? join(packageRoot, 'deploy', 'kubernetes');
  const cache = options.cache ?? cacheFolder('bin');
  const folder = options.folder ?? process.env.ISTHMUS_BINARIES;
  const found = new Map<BinaryName, string>();
  const missing = new Map<Component, { pin: Pin; target: string; names: BinaryName[] }>();

  for (const name of new Set<BinaryName>(names)) {
    if (folder !== undefined && (await executable(join(folder, name)))) {
      found.set(name, resolve(folder, name));
      continue;
    }
    const component = componentOf(name);
    const entry = missing.get(component) ?? (await placeOf(component, modules, cache));
    found.set(name, join(entry.target, name));
    if (await executable(join(entry.target, name))) continue;
    entry.names.push(name);
    missing.set(component, entry);
  }
  for (const [component, { pin, target, names: wanted }] of missing) {
    await oneAtATime(target, async () => {
      const still: BinaryName[] = [];
      for (const name of wanted) if (!(await executable(join(target, name)))) still.push(name);
      if (still.length > 0) await obtainAll(component, pin, still, target, { ...options, modules });
    });
  }
  return Object.fromEntries(found) as Record<Name, string>;
}

/** Two callers of this process that want the same component must not build it beside each other. */
const working = new Map<string, Promise<void>>();

async function oneAtATime(target: string, work: () => Promise<void>): Promise<void> {
  const previous = working.get(target) ?? Promise.resolve();
  const mine = previous.then(work, work);
  working.set(target, mine);
  await mine;
}

interface Pin {
  readonly version: string;
  /** Changes with anything that a build of the component is made of. */
  readonly hash: string;
}

async function placeOf(component: Component, modules: string, cache: string) {
  const pin = await pinOf(component, modules);
  const target = join(cache, `${component.name}-${pin.version}-${pin.hash}`);
  return { pin, target, names: [] as BinaryName[] };
}

async function pinOf(component: Component, modules: string): Promise<Pin> {
  const folder = join(modules, component.folder);
  const goMod = await readFile(join(folder, 'go.mod'), 'utf8');
  const required = new RegExp(
    `^\\s*(?:require\\s+)?${component.module.replaceAll('.', '\\.')}\\s+(v\\S+)`,
    'm',
  );
  const version = required.exec(goMod)?.[1];
  if (version === undefined)
    throw new Error(`${folder}/go.mod: expected a requirement of ${component.module}`);
  const hash = createHash('sha256').update(goMod).update(component.linkerFlags(version).join(' '));
  // What a package of ours is made of; tools.go only names packages to require.
  for (const file of (await readdir(folder)).sort()) {
    if (file.endsWith('.go') && file !== 'tools.go') hash.update(await readFile(join(folder, file)));
  }
  return { version, hash: hash.digest('hex').slice(0, 8) };
}

async function obtainAll(
  component: Component,
  { version }: Pin,
  names: readonly BinaryName[],
  target: string,
  options: BinaryOptions & { modules: string },
): Promise<void> {
  const { report, signal, modules } = options;
  const reasons: string[] = [];
  // Whatever way fills it, the cache only ever holds whole files.
  const temporary = `${target}.${process.pid}.new`;
  let missing = names;
  try {
    for (const obtain of options.obtain ?? [downloadBinaries, buildBinaries]) {
      await rm(temporary, { recursive: true, force: true });
      await mkdir(temporary, { recursive: true });
      try {
        const got = await obtain(component, version, missing, temporary, { report, modules, signal });
        await mkdir(target, { recursive: true });
        for (const name of got) await rename(join(temporary, name), join(target, name));
        missing = missing.filter(name => !got.includes(name));
        if (missing.length === 0) return;
      } catch (error) {
        signal?.throwIfAborted();
        const reason = error instanceof Error ? error.message : String(error);
        report(`${component.name} ${version}: ${reason}`);
        reasons.push(reason);
      }
    }
  } finally {
    await rm(temporary, { recursive: true, force: true });
  }
  throw new Error(
    `${missing.join(', ')} (${component.name} ${version}): could neither be downloaded nor built:\n  ${reasons.join('\n  ')}\n` +
      'Put the executables into a folder and name it in ISTHMUS_BINARIES.',
  );
}

const executable = (path: string): Promise<boolean> =>
  access(path, constants.X_OK).then(
    () => true,
    () => false,
  );
