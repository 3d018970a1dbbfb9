/** Cilium's own kvstoremesh as a process of this machine, set to what Cilium's chart sets it to. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { MaxClusters } from '../../src/api/identity-number.ts';
import type { TlsFiles } from '../../src/kvstore/connection.ts';
import type { Endpoint } from '../../src/kvstore/endpoint.ts';
import { freePort } from '../free-port.ts';

export interface KvstoremeshOptions {
  /** Path of clustermesh-apiserver. */
  readonly binary: string;
  /** The cluster that it copies for. */
  readonly cluster: string;
  readonly clusterId: number;
  readonly maxClusters: MaxClusters;
  /** Client configuration of its own etcd ({@link etcdConfiguration}). */
  readonly own: string;
  /** Folder with such a configuration of each cluster that it copies. */
  readonly clusters: string;
  /** Words of a command line that runs another one, such as nsenter. */
  readonly within?: readonly string[];
}

/** Starts it. Disposed of, it throws what it said when it had ended by itself. */
export async function startKvstoremesh(
  options: KvstoremeshOptions,
): Promise<AsyncDisposable & { readonly pid: number }> {
  const folder = mkdtempSync(join(tmpdir(), 'isthmus-kvstoremesh-'));
  const own = join(folder, 'etcd-config.yaml');
  writeFileSync(own, options.own, { mode: 0o600 });
  const log = join(folder, 'log');
  const file = openSync(log, 'w');
  const [command, ...args] = [
    ...(options.within ?? []),
    options.binary,
    'kvstoremesh',
    `--cluster-name=${options.cluster}`,
    `--cluster-id=${options.clusterId}`,
    `--max-connected-clusters=${options.maxClusters}`,
    `--kvstore-opt=etcd.config=${own}`,
    '--kvstore-opt=etcd.qps=100',
    '--kvstore-opt=etcd.bootstrapQps=10000',
    '--kvstore-opt=etcd.maxInflight=10',
    `--clustermesh-config=${options.clusters}`,
    '--enable-heartbeat=true',
    '--enable-gops=false',
    `--health-port=${await freePort()}`,
    `--api-serve-addr=127.0.0.1:${await freePort()}`,
    `--shell-sock-path=${join(folder, 'shell.sock')}`,
  ];
  const child = spawn(command!, args, { stdio: ['ignore', file, file] });
  closeSync(file);
  return {
    pid: child.pid!,
    async [Symbol.asyncDispose]() {
      const runs = child.exitCode === null && child.signalCode === null;
      const said = readFileSync(log, 'utf8').slice(-2000);
      if (runs) {
        const ended = once(child, 'exit');
        child.kill('SIGKILL');
        await ended;
      }
      rmSync(folder, { recursive: true });
      if (!runs) throw new Error(`kvstoremesh had ended by itself:\n${said}`);
    },
  };
}

/** Client configuration of an etcd as a Go client takes it, which knows no aliases of hosts. */
export function etcdConfiguration(
  { host, port }: Pick<Endpoint, 'host' | 'port'>,
  { ca, cert, key }: TlsFiles,
): string {
  return `endpoints:\n- https://${host}:${port}\ntrusted-ca-file: ${ca}\ncert-file: ${cert}\nkey-file: ${key}\n`;
}
