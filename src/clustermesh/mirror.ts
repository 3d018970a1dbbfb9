import { setMaxListeners } from 'node:events';
import type { EtcdConnection } from '../kvstore/connection.ts';
import { listPrefix } from '../kvstore/range.ts';
import { pause } from '../kvstore/session.ts';
import { type EtcdRow, EtcdTarget } from '../kvstore/target.ts';
import { logOf } from '../log.ts';
import { Reconciler } from '../table/reconciler.ts';
import { Table } from '../table/table.ts';
import { ClusterFolder, type ReadersOptions } from './cluster-folder.ts';
import { Copy } from './copy.ts';
import { clusterConfigKey, reportKey, reportsPrefix, syncedPrefix } from './layout.ts';
import type { MirrorReport } from './mirror-report.ts';
import type { RemoteClusterStatus } from './remote-status.ts';
import type { Verdicts } from './verdict-tables.ts';
import { closeCopy, withdrawCopy } from './withdraw.ts';

export interface MirrorOptions extends ReadersOptions {
  /** Who it is: its pod. */
  readonly name: string;
  /** What our nodes' probes found. */
  readonly verdicts?: Pick<Verdicts, 'clusters' | 'remoteNodes'>;
  /** Seconds the copies outlive this process. Default 900. */
  readonly ttl?: number;
  /** Seconds its reports outlive it. Default 15. */
  readonly reportTtl?: number;
  /** Milliseconds that readers have to leave before the copy of a cluster that was taken off goes. Default 180000, as Cilium's. */
  readonly leave?: number;
  readonly onError?: (key: string, error: Error, attempt: number) => void;
}

/** Seconds: a pause of the machine does not end it, the end of a mirror is soon known. */
const REPORT_TTL = 15;
/** Milliseconds that a cluster has to be connected before the mirror is ready without it; as Cilium's. */
const CONNECT_WITHIN = 15_000;
/** Milliseconds after which it is not waited for any longer, though it is connected. */
const COPY_WITHIN = 600_000;
/** Milliseconds that readers have to leave what is to go; as Cilium's. */
const LEAVE = 180_000;
/** Milliseconds after which ages in the report of a cluster that is not ready are said again. */
const RENEW = 15_000;

const log = logOf('kvstoremesh');

/**
 * Copies what other clusters export into the etcd of this one, so that the agents here read one etcd and each cluster
 * is read once. Our equivalent of Cilium's kvstoremesh, with the same keys; besides, it reports how it hears each
 * cluster (mirror-report.ts), which a copy cannot tell.
 */
export class Mirror {
  readonly #options: MirrorOptions;
  readonly #folder: ClusterFolder;
  readonly #copies = new Map<string, Copy>();
  readonly #reports = new Table<EtcdRow>({ name: 'mirror-reports', keyOf: row => row.key });
  readonly #reportTarget: EtcdTarget;
  /** Clusters whose copy goes: the end of the work, and what calls it off. */
  readonly #leaving = new Map<string, { readonly done: Promise<void>; readonly cancel: AbortController }>();
  /** What was last reported of each cluster, ages aside, and when. */
  readonly #reported = new Map<string, { readonly about: string; readonly at: number }>();
  /** Copies that were whole when their cluster was last found ready, by its name; and those that are waited for. */
  readonly #copied = new Map<string, Copy>();
  readonly #copying = new WeakSet<Copy>();
  #connected = Promise.withResolvers<EtcdConnection>();
  #session: { readonly serve: (copy: Copy, after: Promise<void> | undefined) => void } | undefined;
  #wasReady = false;

  constructor(options: MirrorOptions) {
    this.#options = options;
    const { signal, verdicts, onError } = options;
    this.#reportTarget = new EtcdTarget({ ttl: options.reportTtl ?? REPORT_TTL, prefixes: [reportsPrefix] });
    this.#folder = new ClusterFolder(options, {
      added: name => this.#add(name).consumer,
      leaving: name => {
        this.#copies.get(name)?.stop();
        this.#copies.delete(name);
      },
      removed: name => this.#leave(name),
      changed: name => this.#report(name),
    });
    const reports = new Reconciler(this.#reports, this.#reportTarget, {
      signal,
      backoff: { first: 20, max: 1000 },
      ...(onError ? { onError } : {}),
    });
    this.#reportTarget.onLost = () => void reports.repair();
    if (verdicts) this.#folder.follow(verdicts);
    this.#folder.start();
    this.#reports.markSynced();
    const timer = setInterval(() => {
      for (const name of this.#copies.keys()) this.#report(name);
    }, RENEW / 3).unref();
    signal.addEventListener('abort', () => clearInterval(timer), { once: true });
  }

  /** One entry per configured cluster, by name. */
  get status(): readonly RemoteClusterStatus[] {
    return this.#folder.status;
  }

  /**
   * Why readers should not come here yet: clusters whose copy is not whole. Those that cannot be reached are not waited
   * for, and once it is ready a mirror stays so: what it holds is better than nothing.
   */
  get incomplete(): readonly string[] {
    if (this.#wasReady) return [];
    const now = performance.now();
    const missing = [...this.#copies].flatMap(([name, { exporter, since }]) => {
      const age = now - since;
      const reached = this.#folder.get(name)?.status.connected;
      return exporter.synced || age > (reached ? COPY_WITHIN : CONNECT_WITHIN) ? [] : [name];
    });
    this.#wasReady = missing.length === 0;
    return missing;
  }

  /** Writes through `connection`, to the local etcd, until `signal` aborts or it fails: the body of keepSession. */
  async serve(connection: EtcdConnection, signal: AbortSignal): Promise<void> {
    const { promise: failed, reject } = Promise.withResolvers<never>();
    failed.catch(() => undefined);
    await this.#reportTarget.attach(connection, signal);
    this.#reportTarget.keep(connection, signal).catch(reject);
    const serve = (copy: Copy, after: Promise<void> | undefined): void => {
      const running = AbortSignal.any([signal, copy.stopped]);
      setMaxListeners(0, running);
      const work = async (): Promise<void> => {
        await after;
        if (!running.aborted) await copy.exporter.serve(connection, running);
      };
      work().catch(error => {
        if (!running.aborted) reject(error);
      });
    };
    for (const [name, copy] of this.#copies) serve(copy, this.#leaving.get(name)?.done);
    this.#session = { serve };
    this.#connected.resolve(connection);
    try {
      await this.#findForgotten(connection);
      await Promise.race([failed, new Promise<void>(resolve => onAbort(signal, resolve))]);
    } finally {
      this.#session = undefined;
      this.#connected = Promise.withResolvers();
    }
  }

  #add(name: string): Copy {
    const { ttl, onError, leave = LEAVE } = this.#options;
    const copy = new Copy(name, leave, { ...(ttl ? { ttl } : {}), ...(onError ? { onError } : {}) });
    this.#copies.set(name, copy);
    // It came back before its copy was gone, which is taken over as it is.
    const leaving = this.#leaving.get(name);
    leaving?.cancel.abort();
    this.#session?.serve(copy, leaving?.done);
    return copy;
  }

  /** Takes back the copy of a cluster that is no longer configured, in two steps: the readers are to leave before it goes. */
  #leave(name: string): void {
    if (this.#leaving.has(name) || this.#copies.has(name)) return;
    const cancel = new AbortController();
    const over = AbortSignal.any([cancel.signal, this.#options.signal]);
    const work = async (): Promise<void> => {
      await this.#write(connection => closeCopy(connection, name), over);
      await pause(this.#options.leave ?? LEAVE, over);
      await this.#write(connection => withdrawCopy(connection, name), over);
      if (over.aborted) return;
      this.#reported.delete(name);
      this.#reports.delete(reportKey(name));
      log.info({ cluster: name }, 'the copy of a cluster that was taken off is gone');
    };
    const done = work().finally(() => this.#leaving.delete(name));
    this.#leaving.set(name, { done, cancel });
  }

  /** Does something in the local etcd, again after each failure, unless it is called off before it began. */
  async #write(change: (connection: EtcdConnection) => Promise<void>, over: AbortSignal): Promise<void> {
    const end = new Promise<undefined>(resolve => onAbort(over, () => resolve(undefined)));
    while (!over.aborted) {
      const connection = await Promise.race([this.#connected.promise, end]);
      if (!connection) return;
      try {
        return await change(connection);
      } catch {
        await pause(500, over); // the session tells its failure, and connects anew
      }
    }
  }

  /** Copies of clusters that were taken off while nobody was here to see it. */
  async #findForgotten(connection: EtcdConnection): Promise<void> {
    const found = new Set<string>();
    for (const prefix of [clusterConfigKey(''), syncedPrefix('').slice(0, -1)])
      await listPrefix(
        connection,
        prefix,
        page => {
          for (const { key } of page) found.add(key.slice(prefix.length).split('/')[0]!);
        },
        { keysOnly: true },
      );
    found.delete(this.#options.cluster);
    for (const name of found) if (!this.#folder.names.includes(name)) this.#leave(name);
  }

  /** Says how a cluster is heard: what is new at once, ages now and then; that it is ready when the copy is, too. */
  #report(name: string): void {
    const cluster = this.#folder.get(name);
    const copy = this.#copies.get(name);
    if (!cluster || !copy) return;
    const { clusterId = 0, state: heard, status, ...ages } = cluster.status;
    const { answers, blind, heartbeat, exportMode } = cluster;
    const state = heard !== 'ready' || this.#isCopied(name, copy) ? heard : 'syncing';
    if (heard !== 'ready') this.#copied.delete(name);
    const about = JSON.stringify([
      clusterId,
      exportMode,
      state,
      answers,
      blind,
      heartbeat,
      status.replace(/\d+/g, '#'),
    ]);
    const last = this.#reported.get(name);
    const now = performance.now();
    if (last?.about === about && (state === 'ready' || now - last.at < RENEW)) return;
    this.#reported.set(name, { about, at: now });
    const report: MirrorReport = {
      mirror: this.#options.name,
      clusterId,
      exportMode,
      state,
      status: state === heard ? status : 'what it says is being copied',
      answers,
      blind,
      heartbeatAge: ages.heartbeatAge,
      disconnectedAge: ages.disconnectedAge,
      lastOutage: ages.lastOutage,
    };
    this.#reports.upsert({ key: reportKey(name), value: JSON.stringify(report) });
  }

  /** All that is known since the cluster is ready again has been written; if not, it is reported when it has. */
  #isCopied(name: string, copy: Copy): boolean {
    if (this.#copied.get(name) === copy) return true;
    if (this.#copying.has(copy)) return false;
    this.#copying.add(copy);
    void copy.exporter.settled().then(() => {
      this.#copying.delete(copy);
      this.#copied.set(name, copy);
      this.#report(name);
    });
    return false;
  }
}

function onAbort(signal: AbortSignal, then: () => void): void {
  if (signal.aborted) then();
  else signal.addEventListener('abort', then, { once: true });
}
