import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdirSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import type { EtcdConnection, TlsFiles } from '../kvstore/connection.ts';
import { dial, pause } from '../kvstore/session.ts';
import { ensureAccess } from './access.ts';

export interface EtcdServerOptions {
  /** Path of the etcd executable. */
  readonly binary: string;
  readonly dataDir: string;
  /** `host:port` for clients. */
  readonly listen: string;
  /** The server's certificate, and the authority its clients' certificates must be signed by. */
  readonly tls: TlsFiles;
  /** `host:port` of plain HTTP /metrics and /health. */
  readonly metrics?: string;
  /** Tells two data sets apart: becomes part of the etcd cluster ID. Only where the data directory is empty. */
  readonly token?: string;
  /** The data directory is in memory: nothing is gained by waiting for a disk. */
  readonly memory?: boolean;
}

/**
 * Command line of the mesh etcd: one member, client certificates required, no peers. Flags known from
 * 3.4 to 3.6.
 */
export function etcdArguments(options: EtcdServerOptions): string[] {
  // A single member has no peers: what it listens on is a port of the loopback that the kernel picks.
  const peer = 'https://127.0.0.1:2380';
  return [
    '--name=clustermesh-apiserver',
    `--data-dir=${options.dataDir}`,
    `--listen-client-urls=https://${options.listen}`,
    `--advertise-client-urls=https://127.0.0.1:${options.listen.split(':').at(-1)}`,
    '--listen-peer-urls=https://127.0.0.1:0',
    `--initial-advertise-peer-urls=${peer}`,
    `--initial-cluster=clustermesh-apiserver=${peer}`,
    ...(options.token ? [`--initial-cluster-token=${options.token}`] : []),
    ...(options.metrics ? [`--listen-metrics-urls=http://${options.metrics}`] : []),
    '--client-cert-auth',
    `--trusted-ca-file=${options.tls.ca}`,
    `--cert-file=${options.tls.cert}`,
    `--key-file=${options.tls.key}`,
    '--peer-client-cert-auth',
    `--peer-trusted-ca-file=${options.tls.ca}`,
    `--peer-cert-file=${options.tls.cert}`,
    `--peer-key-file=${options.tls.key}`,
    '--enable-grpc-gateway=false',
    '--auto-compaction-mode=periodic',
    '--auto-compaction-retention=10m',
    // The folder also holds the log, and for a moment a second copy while space is freed.
    '--quota-backend-bytes=805306368',
    // Clients of other clusters may look for a dead connection every few seconds.
    '--grpc-keepalive-min-time=2s',
    ...(options.memory ? ['--unsafe-no-fsync'] : []),
    '--log-level=warn',
  ];
}

/**
 * Prepares an empty data directory: a short-lived etcd, reachable on loopback only, gets its users and roles
 * and authentication turned on, and stops. The etcd that starts on the directory afterwards has never been
 * open to anyone. What was in the directory is removed: the mesh etcd is a cache.
 */
export async function initializeEtcd(
  server: EtcdServerOptions,
  cluster: string,
  admin: TlsFiles,
  signal: AbortSignal,
): Promise<void> {
  mkdirSync(server.dataDir, { recursive: true, mode: 0o700 });
  for (const name of readdirSync(server.dataDir))
    rmSync(join(server.dataDir, name), { recursive: true, force: true });
  const token = `${cluster}-${randomBytes(8).toString('hex')}`;
  const port = Number(server.listen.split(':').at(-1));
  const child = spawn(server.binary, etcdArguments({ ...server, token, listen: `127.0.0.1:${port}` }), {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  // Shown only when it fails: what a healthy etcd says while it stops looks like errors.
  let said = '';
  child.stderr.on('data', (chunk: Buffer) => {
    said = (said + chunk.toString()).slice(-4096);
  });
  try {
    using connection = await whenServing(child, { host: '127.0.0.1', port }, admin, signal);
    await ensureAccess(connection, cluster);
  } catch (error) {
    throw new Error(`cannot prepare etcd: ${error instanceof Error ? error.message : error}\n${said}`, {
      cause: error,
    });
  } finally {
    await stop(child);
  }
}

/** A connection to an etcd that is just starting. @throws Error when the process ended instead */
async function whenServing(
  child: ChildProcess,
  { host, port }: { host: string; port: number },
  tls: TlsFiles,
  signal: AbortSignal,
): Promise<EtcdConnection> {
  let failure: Error | undefined;
  child.once('error', error => {
    failure = error;
  });
  for (;;) {
    signal.throwIfAborted();
    if (failure) throw failure;
    if (child.exitCode !== null || child.signalCode !== null)
      throw new Error(`etcd ended while starting: ${child.signalCode ?? `exit code ${child.exitCode}`}`);
    try {
      const connection = await dial(
        [{ host, port, serverName: undefined }],
        { tls, dialTimeout: 1000 },
        signal,
      );
      await connection.maintenance.status({});
      return connection;
    } catch {
      await pause(50, signal);
    }
  }
}

function stop(child: ChildProcess): Promise<void> {
  return new Promise(resolve => {
    if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return resolve();
    child.once('exit', () => resolve());
    child.kill('SIGTERM');
  });
}
