/** Mirrors beside each other: ours and Cilium's kvstoremesh, each a process with an etcd of its own. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import * as z from 'zod';
import { adminUser } from '../../src/clustermesh/access.ts';
import { canaryKey, datapathKinds, heartbeatKey, objectPrefix } from '../../src/clustermesh/layout.ts';
import { timestamp } from '../../src/kube/time.ts';
import type { EtcdConnection } from '../../src/kvstore/connection.ts';
import { encodeKey, getKey, prefixEnd } from '../../src/kvstore/range.ts';
import { PrefixFollower } from '../../src/kvstore/watch.ts';
import { ensureBinaries } from '../../src/lab/binaries.ts';
import { etcdConfiguration, startKvstoremesh } from '../../test/interop/kvstoremesh.ts';
import type { Arrivals } from '../arrivals.ts';
import { now } from '../control-plane/bed.ts';
import { SyntheticEtcd } from '../synthetic-etcd.ts';

export type MirrorKind = 'isthmus' | 'kvstoremesh';

export interface MirrorOptions {
  readonly kind: MirrorKind;
  /** The cluster that it copies for; it has the ID 1. */
  readonly cluster: string;
  /** Address and port for its etcd. */
  readonly host: string;
  readonly port: number;
  /** Words of a command line that runs the mirror where it is to be. */
  readonly within: readonly string[];
}

/** A mirror that runs, and copies nothing yet. */
export class RunningMirror implements AsyncDisposable {
  readonly kind: MirrorKind;
  readonly home: SyntheticEtcd;
  /** Of the mirror, where nothing was put before its command. */
  readonly pid: number;
  readonly #connection: EtcdConnection;
  readonly #folder: string;
  readonly #process: AsyncDisposable;
  readonly #timer: NodeJS.Timeout;

  private constructor(
    kind: MirrorKind,
    home: SyntheticEtcd,
    connection: EtcdConnection,
    folder: string,
    child: AsyncDisposable & { readonly pid: number },
  ) {
    this.pid = child.pid;
    this.kind = kind;
    this.home = home;
    this.#connection = connection;
    this.#folder = folder;
    this.#process = child;
    this.#timer = setInterval(() => void this.#beat().catch(() => undefined), 30_000);
  }

  static async start({ kind, cluster, host, port, within }: MirrorOptions): Promise<RunningMirror> {
    const home = await SyntheticEtcd.start(cluster, host, port);
    const folder = mkdtempSync(join(tmpdir(), 'isthmus-bench-mirror-'));
    const connection = await home.connect();
    const own = etcdConfiguration(home, await home.certificate(adminUser(cluster)));
    const child =
      kind === 'isthmus'
        ? startOurs({ cluster, own, folder, within })
        : await startKvstoremesh({
            binary: (
              await ensureBinaries(['cilium-clustermesh-apiserver'], { report: line => console.error(line) })
            )['cilium-clustermesh-apiserver'],
            cluster,
            clusterId: 1,
            maxClusters: 255,
            own,
            clusters: folder,
            within,
          });
    const mirror = new RunningMirror(kind, home, connection, folder, child);
    await mirror.#beat();
    return mirror;
  }

  /** What a cluster's clustermesh-apiserver says in an etcd of its own: a mirror has none. */
  async #beat(): Promise<void> {
    await this.#connection.kv.put({ key: encodeKey(heartbeatKey), value: encodeKey(timestamp()) });
  }

  /** Where the configuration of a cluster is, once it copies it. */
  fileOf(cluster: string): string {
    return join(this.#folder, cluster);
  }

  /** Has it copy a cluster from now on. */
  copy(cluster: string, configuration: string): void {
    writeFileSync(this.fileOf(cluster), configuration);
  }

  /** Resolves to the time, in µs, at which the copy of a cluster with so many endpoints was called complete. */
  async whole(cluster: string, endpoints: number): Promise<number> {
    const canaries = datapathKinds.map(kind => canaryKey(kind, cluster, true));
    for (const limit = now() + 600e6; now() < limit; await pause(5)) {
      const found = await Promise.all(canaries.map(key => getKey(this.#connection, key)));
      if (found.some(each => each === undefined)) continue;
      const stamp = now();
      const prefix = objectPrefix('ip', cluster, true);
      const { count } = await this.#connection.kv.range({
        key: encodeKey(prefix),
        rangeEnd: prefixEnd(prefix),
        countOnly: true,
      });
      if (Number(count) !== endpoints)
        throw new Error(`${this.kind} calls a copy of ${count} endpoints complete, expected ${endpoints}`);
      return stamp;
    }
    throw new Error(`${this.kind} has no whole copy of ${cluster} after 600 s`);
  }

  /** Notes when a service of a cluster, by its name, has another first backend in the copy: `NAME ADDRESS`. */
  watch(cluster: string, namespace: string, arrivals: Arrivals): Disposable {
    const stop = new AbortController();
    const prefix = `${objectPrefix('services', cluster, true)}${namespace}/`;
    const follower = new PrefixFollower(prefix, {
      put: ({ key, value }) => {
        const stamp = now();
        const [backend] = Object.keys(exported.parse(JSON.parse(value)).backends);
        if (backend !== undefined) arrivals.note(`${key.slice(prefix.length)} ${backend}`, stamp);
      },
      delete: () => undefined,
      listed: () => undefined,
    });
    follower.follow(this.#connection, stop.signal).catch(() => undefined);
    return { [Symbol.dispose]: () => stop.abort() };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#timer);
    this.#connection.close();
    await using _home = this.home;
    await using _process = this.#process;
    rmSync(this.#folder, { recursive: true });
  }
}

const exported = z.object({ backends: z.record(z.string(), z.unknown()) });

interface OurOptions {
  readonly cluster: string;
  readonly own: string;
  readonly folder: string;
  readonly within: readonly string[];
}

/** With the settings of the chart's daemons (deploy/charts/isthmus/templates/_helpers.tpl). */
function startOurs({ cluster, own, folder, within }: OurOptions): AsyncDisposable & { readonly pid: number } {
  const files = mkdtempSync(join(tmpdir(), 'isthmus-bench-mirror-'));
  const configuration = join(files, 'etcd-config.yaml');
  writeFileSync(configuration, own);
  const [command, ...words] = [
    ...within,
    process.execPath,
    ...['--max-semi-space-size=4', '--initial-heap-size=40', '--heap-growing-percent=50'],
    ...[join(import.meta.dirname, 'mirror-process.ts'), cluster, '1', configuration, folder],
  ];
  const child: ChildProcess = spawn(command!, words, { stdio: ['ignore', 'inherit', 'inherit'] });
  return {
    pid: child.pid!,
    async [Symbol.asyncDispose]() {
      const runs = child.exitCode === null && child.signalCode === null;
      if (runs) {
        const ended = once(child, 'exit');
        child.kill('SIGTERM');
        await ended;
      }
      rmSync(files, { recursive: true });
      if (!runs) throw new Error(`our mirror had ended by itself, with code ${child.exitCode}`);
    },
  };
}
