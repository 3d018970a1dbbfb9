import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { initProcess } from '../../src/lab/node.ts';
import type { Lab } from '../../src/lab/open-lab.ts';
import type { NodePlan } from '../../src/lab/plan.ts';
import type { Bed, NetworkName } from './bed.ts';

let built: string | undefined;

/** The poller of map-watch.c, compiled once per run. */
function program(): string {
  if (built !== undefined) return built;
  built = join(mkdtempSync(join(tmpdir(), 'isthmus-bench-')), 'map-watch');
  execFileSync('gcc', ['-O2', '-static', '-o', built, join(import.meta.dirname, 'map-watch.c')], {
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  return built;
}

/** Folder of the pinned maps of a node, as this machine sees it. */
export function mapFolder(lab: Lab, node: NodePlan, network: NetworkName = 'isthmus'): string {
  const pins = network === 'isthmus' ? 'isthmus/maps' : 'tc/globals';
  const folder = `/proc/${initProcess(lab.layout, node)}/root/sys/fs/bpf/${pins}`;
  if (!existsSync(folder)) throw new Error(`node ${node.name} has no maps at ${folder}`);
  return folder;
}

/** Follows the first backends of services (port 80/TCP) in the maps of a node. */
export async function watchServices(
  { lab, network }: Pick<Bed, 'lab' | 'network'>,
  node: NodePlan,
  services: readonly string[],
  onBackend: (service: string, backend: string, stamp: number) => void,
): Promise<Disposable> {
  const what = network === 'isthmus' ? 'services' : 'cilium-services';
  return await start([what, mapFolder(lab, node, network)], services, line => {
    const [stamp, service, backend] = line.split(' ');
    onBackend(service!, backend!, Number(stamp));
  });
}

/**
 * Resolves when it looks; `done` resolves to the times, in µs, at which a file appeared and at which the ipcache of
 * a node knew all of these addresses as those of a cluster.
 */
export async function timeEndpoints(
  lab: Lab,
  node: NodePlan,
  { addresses, clusterId, file }: { addresses: readonly string[]; clusterId: number; file: string },
): Promise<{ readonly done: Promise<{ readonly file: number; readonly all: number }> }> {
  const { promise, resolve } = Promise.withResolvers<{ file: number; all: number }>();
  let seen = 0;
  const watch = await start(['endpoints', mapFolder(lab, node), String(clusterId), file], addresses, line => {
    const [stamp, what] = line.split(' ');
    if (what === 'file') seen = Number(stamp);
    else {
      watch[Symbol.dispose]();
      resolve({ file: seen, all: Number(stamp) });
    }
  });
  return { done: promise };
}

/**
 * Resolves when it looks; `done` resolves to the time, in µs, at which each of these services (port 80/TCP) had so many
 * backends in the maps; 0: at which none of them was there any more.
 */
export async function timeServices(
  folder: string,
  services: readonly string[],
  backends: number,
): Promise<{ readonly done: Promise<number> }> {
  const { promise, resolve } = Promise.withResolvers<number>();
  const watch = await start(['filled', folder, String(backends)], services, line => {
    watch[Symbol.dispose]();
    resolve(Number(line.split(' ')[0]));
  });
  return { done: promise };
}

async function start(
  args: readonly string[],
  addresses: readonly string[],
  onLine: (line: string) => void,
): Promise<Disposable> {
  const child: ChildProcess = spawn(program(), args, { stdio: ['pipe', 'pipe', 'inherit'] });
  child.stdin!.write(`${addresses.join('\n')}\n\n`);
  const ready = Promise.withResolvers<void>();
  child.once('exit', code => ready.reject(new Error(`map-watch ended with code ${code}`)));
  createInterface({ input: child.stdout! }).on('line', line => {
    if (line === 'ready') ready.resolve();
    else onLine(line);
  });
  await ready.promise;
  return { [Symbol.dispose]: () => void child.stdin!.end() };
}
