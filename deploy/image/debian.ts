import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, realpath, rename, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { promisify } from 'node:util';
import { cacheFolder } from '../../src/cache.ts';
import type { Entry, Layer } from './archive.ts';

/**
 * Programs of Debian as image layers: a program from this machine or from a package, and the shared libraries that
 * the dynamic linker would give it.
 */

const run = promisify(execFile);

const libraryFolder = '/usr/lib/x86_64-linux-gnu';

/** Executable files, each at its own path or at another, with their libraries. */
export async function programs(paths: readonly (string | { from: string; to: string })[]): Promise<Layer> {
  const entries = new Map<string, Entry>();
  for (const each of paths) {
    const { from, to } = typeof each === 'string' ? { from: each, to: each } : each;
    entries.set(to, { type: 'file', path: to, mode: 0o755, content: { file: await realpath(from) } });
    for (const library of await libraries([from])) entries.set(library.path, library);
  }
  return [...entries.values()];
}

/** The shared libraries that the given files need, at the paths where the dynamic linker looks for them. */
export async function libraries(of: readonly string[]): Promise<Layer> {
  const entries = new Map<string, Entry>();
  for (const file of of) {
    for (const { name, path } of await linked(file)) entries.set(name, await library(name, path));
  }
  return [...entries.values()];
}

/** A library that is opened by name at run time, and those it needs. */
export async function loadedLibrary(name: string): Promise<Layer> {
  const path = join(libraryFolder, name);
  return [await library(name, path), ...(await libraries([path]))];
}

async function library(name: string, path: string): Promise<Entry> {
  // The loader's own path is written in every executable; everything else is found by name.
  const folder = name.startsWith('ld-linux') ? '/lib64' : '/lib/x86_64-linux-gnu';
  return { type: 'file', path: join(folder, name), mode: 0o755, content: { file: await realpath(path) } };
}

async function linked(file: string): Promise<{ name: string; path: string }[]> {
  // ldd fails on a static executable, which needs nothing.
  const { stdout } = await run('ldd', [file]).catch(() => ({ stdout: '' }));
  const missing = /^\s*(\S+) => not found/m.exec(stdout)?.[1];
  if (missing !== undefined) throw new Error(`${file} needs ${missing}, which is not on this machine`);
  return stdout.split('\n').flatMap(line => {
    const path = /=> (\/\S+)/.exec(line)?.[1] ?? /^\s*(\/\S+)/.exec(line)?.[1];
    return path === undefined ? [] : [{ name: basename(path), path }];
  });
}

/**
 * The folder with a Debian package's files, unpacked into the cache so that nothing is installed (nginx's package
 * would start a server on the machine). Without a network an installed package serves as well.
 */
export async function packageFolder(name: string, options: { readonly probe: string }): Promise<string> {
  const folder = cacheFolder('debian', name);
  if (existsSync(folder)) return folder;
  const temporary = await mkdtemp(join(tmpdir(), 'isthmus-package-'));
  try {
    await downloadPackage(name, temporary);
    await mkdir(cacheFolder('debian'), { recursive: true });
    const archive = (await readdir(temporary)).find(file => file.endsWith('.deb'));
    if (archive === undefined) throw new Error(`apt-get download ${name} left no .deb`);
    const unpacked = `${folder}.${process.pid}.new`;
    await run('dpkg-deb', ['-x', join(temporary, archive), unpacked]);
    await rename(unpacked, folder);
    return folder;
  } catch (error) {
    if (existsSync(options.probe)) return '/';
    const reason = error instanceof Error ? error.message : String(error);
    throw new Error(`Debian's package ${name} can neither be downloaded nor is it installed: ${reason}`);
  } finally {
    await rm(temporary, { recursive: true, force: true });
  }
}

async function downloadPackage(name: string, folder: string): Promise<void> {
  // apt's unprivileged helper may not write here; without this it warns on every download.
  const download = ['-o', 'APT::Sandbox::User=root', 'download', name];
  try {
    await run('apt-get', download, { cwd: folder });
  } catch {
    await run('apt-get', ['update']);
    await run('apt-get', download, { cwd: folder });
  }
}
