/**
 * The agent's side of the CNI plugin: one Unix socket, one connection a call. The plugin sends its request,
 * gets a plan, does it, reports, and gets the answer for the runtime (frames: cni/agent.h, plans: cni/plan.h).
 */
import { mkdirSync, renameSync, rmSync } from 'node:fs';
import { createServer, type Socket } from 'node:net';
import { dirname } from 'node:path';
import type { Logger } from '../log.ts';
import { decodeFrames, encodeFrame, type Frame } from './cni-frames.ts';
import { addPlan, addResult, checkPlan, deletePlan, upPlan } from './cni-plan.ts';
import { takeReleases } from './cni-releases.ts';
import { CniCode, CniError, type CniRequest, errorJson, parseRequest, versionOf } from './cni-request.ts';
import {
  addressesOf,
  addressText,
  attachmentKey,
  type Endpoint,
  endpointKey,
  hostInterfaceName,
} from './endpoint.ts';
import type { Endpoints } from './endpoints.ts';

export interface CniServerOptions {
  /** Restored endpoints. */
  readonly endpoints: Endpoints;
  readonly log: Logger;
  /** Default /run/isthmus/cni.sock. */
  readonly socketPath?: string;
  /** Where the plugin leaves notes while no agent runs. Default /run/isthmus/cni-release. */
  readonly releasesFolder?: string;
  /**
   * The security identity of a new endpoint. Asked as soon as the pod is known; when it takes longer than
   * `identityWait`, the pod starts as reserved:init and gets its identity when the promise resolves.
   */
  readonly identify: (endpoint: Endpoint) => Promise<number>;
  /** Milliseconds, default 5000. */
  readonly identityWait?: number;
  /** Resolves when the datapath's maps hold the table's present row of this endpoint, or have lost it. */
  readonly programmed: (key: string) => Promise<void>;
  /** Why a pod cannot be added now (STATUS answers code 50); undefined: it can. */
  readonly problem: () => string | undefined;
  /** For metrics: a call ended, `code` 0 for success. */
  readonly onCall?: (command: string, milliseconds: number, code: number) => void;
  /** Milliseconds between looks for what has no owner, default 30 s. */
  readonly sweepInterval?: number;
}

/** Listens until disposed. Resolves once the socket is there: from then on pods can be added. */
export async function serveCni(options: CniServerOptions): Promise<AsyncDisposable> {
  const path = options.socketPath ?? '/run/isthmus/cni.sock';
  const releases = options.releasesFolder ?? '/run/isthmus/cni-release';
  const stop = new AbortController();
  const open = new Set<Socket>();
  const inTurn = turns();
  const server = createServer(socket => {
    open.add(socket);
    socket.on('close', () => open.delete(socket));
    // A plugin that went away is seen by its conversation, which ends.
    socket.on('error', () => undefined);
    void converse(socket, options, inTurn);
  });
  mkdirSync(dirname(path), { recursive: true, mode: 0o755 });
  // Bound aside and renamed: the name never stands for a socket nobody listens on.
  const aside = `${path}.new`;
  rmSync(aside, { force: true });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(aside, resolve);
  });
  renameSync(aside, path);
  const tidy = async (): Promise<void> => {
    // Not while pods come and go: it lists devices, which waits for the kernel's lock on them.
    if (open.size > 0) return;
    const taken = takeReleases(releases, key => void options.endpoints.remove(key));
    if (taken) options.log.info({ taken }, 'releases of pods that went while no agent ran');
    await options.endpoints.sweep(stop.signal);
  };
  const tidyAndTell = (): void =>
    void tidy().catch((error: unknown) => options.log.error({ error }, 'look for ownerless devices'));
  // After the socket is there: a plugin either still left its note before this, or reaches us.
  tidyAndTell();
  const timer = setInterval(tidyAndTell, options.sweepInterval ?? 30_000);
  timer.unref();
  return {
    async [Symbol.asyncDispose]() {
      clearInterval(timer);
      stop.abort();
      rmSync(path, { force: true });
      for (const socket of open) socket.destroy();
      await new Promise<void>(resolve => server.close(() => resolve()));
    },
  };
}

type Turns = <T>(key: string, work: () => Promise<T>) => Promise<T>;

/** Calls for one attachment run one after another; others do not wait. */
function turns(): Turns {
  const last = new Map<string, Promise<unknown>>();
  return async (key, work) => {
    const before = last.get(key) ?? Promise.resolve();
    const mine = before.then(work, work);
    last.set(key, mine);
    try {
      return await mine;
    } finally {
      if (last.get(key) === mine) last.delete(key);
    }
  };
}

async function converse(socket: Socket, options: CniServerOptions, inTurn: Turns): Promise<void> {
  const started = performance.now();
  const frames = decodeFrames(socket);
  let command = 'unknown';
  let version = '1.0.0';
  let code = 0;
  try {
    const first = await frames.next();
    if (first.done) return;
    version = versionOf(first.value.payload);
    const request = parseRequest(first.value.payload);
    command = request.command;
    const plugin = new Plugin(socket, frames);
    const key = request.containerId ? attachmentKey(request.containerId, request.ifName) : request.command;
    const answer = await inTurn(key, () => handlers[request.command](request, plugin, options));
    socket.end(encodeFrame('R', answer));
  } catch (error) {
    const told =
      error instanceof CniError
        ? error
        : new CniError(CniCode.tryAgainLater, error instanceof Error ? error.message : String(error));
    code = told.code;
    const level = error instanceof PluginGone || error instanceof CniError ? 'warn' : 'error';
    options.log[level]({ command, code, error, details: told.details }, `CNI ${command} failed`);
    if (!socket.destroyed) socket.end(encodeFrame('E', errorJson(version, told)));
  }
  options.onCall?.(command, performance.now() - started, code);
}

/** The plugin went away before its call was answered: it has undone its work, or was killed. */
class PluginGone extends CniError {
  constructor() {
    super(CniCode.tryAgainLater, 'the plugin went away');
    this.name = 'PluginGone';
  }
}

/** The other end of one call after its request. */
class Plugin {
  readonly #socket: Socket;
  readonly #frames: AsyncGenerator<Frame>;
  #next: Promise<IteratorResult<Frame>> | undefined;

  constructor(socket: Socket, frames: AsyncGenerator<Frame>) {
    this.#socket = socket;
    this.#frames = frames;
  }

  /**
   * Hands over a plan; resolves to the ifindex of the veth it made (0 if none). Throws a CniError with this
   * code if the plan failed: the plugin has then undone all plans of its call.
   */
  async run(plan: string, code: number, what: string): Promise<number> {
    this.#socket.write(encodeFrame('P', plan));
    const report = await this.#receive();
    this.#next = undefined;
    if (report.done) throw new PluginGone();
    const text = report.value.payload.toString();
    if (report.value.type === 'F') throw new CniError(code, what, text);
    const ifindex = /^(\d+) (\d+)$/.exec(text)?.[1];
    if (report.value.type !== 'D' || ifindex === undefined)
      throw new CniError(CniCode.decode, 'the plugin’s report is not understood', text);
    return Number(ifindex);
  }

  /** Waits for work done between plans, but not longer than the plugin does: all it can say now is its end. */
  whileThere<T>(work: Promise<T>): Promise<T> {
    const gone = this.#receive().then(() => Promise.reject(new PluginGone()));
    return Promise.race([work, gone]);
  }

  #receive(): Promise<IteratorResult<Frame>> {
    if (!this.#next) {
      this.#next = this.#frames.next();
      this.#next.catch(() => undefined);
    }
    return this.#next;
  }
}

type Handler = (request: CniRequest, plugin: Plugin, options: CniServerOptions) => Promise<string>;

const handlers: Readonly<Record<CniRequest['command'], Handler>> = {
  async ADD(request, plugin, options) {
    const { endpoints, log } = options;
    const problem = options.problem();
    if (problem) throw new CniError(CniCode.tryAgainLater, 'the datapath is not ready', problem);
    const endpoint = endpoints.begin(request);
    const key = endpointKey(endpoint);
    // Asked first: labels and identity arrive while the plugin makes the device.
    const identity = identityOf(endpoint, options);
    try {
      const ifindex = await plugin.run(addPlan(endpoint), CniCode.kernel, 'set up the pod’s interface');
      await plugin.whileThere(endpoints.attach(key, ifindex));
      await plugin.run(upPlan(endpoint), CniCode.kernel, 'set up the node’s side of the pod’s interface');
      const ready = endpoints.markReady(key, await plugin.whileThere(identity));
      await plugin.whileThere(options.programmed(key));
      log.info(
        { endpoint: key, pod: `${ready.namespace}/${ready.podName}`, address: addressText(ready) },
        'pod added',
      );
      return addResult(ready, request.version);
    } catch (error) {
      endpoints.remove(key);
      // The plugin undoes its own work; one that was killed cannot.
      if (error instanceof PluginGone) endpoints.deleteDevice(endpoint);
      throw error;
    }
  },

  async DEL(request, plugin, options) {
    const key = attachmentKey(request.containerId, request.ifName);
    const known = options.endpoints.table.has(key);
    if (known) {
      options.endpoints.markDeleting(key);
      await options.programmed(key);
    }
    const plan = deletePlan([{ hostIfName: hostInterfaceName(key), key }]);
    await plugin.run(plan, CniCode.io, 'delete the pod’s interface');
    if (known) {
      options.endpoints.remove(key);
      options.log.info({ endpoint: key }, 'pod removed');
    }
    return '';
  },

  async CHECK(request, plugin, { endpoints }) {
    const key = attachmentKey(request.containerId, request.ifName);
    const endpoint = endpoints.table.get(key);
    if (!endpoint) throw new CniError(CniCode.unknownContainer, `no endpoint ${key}`);
    const expected = addressesOf(endpoint).map(({ address, bits }) => `${address}/${bits}`);
    const previous = request.previous;
    if (previous && expected.some(each => !previous.includes(each)))
      throw new CniError(
        CniCode.checkFailed,
        'prevResult is not this endpoint’s',
        `found ${previous.join(', ') || 'no address'}, expected ${expected.join(', ')}`,
      );
    const problem = endpoints.hostProblem(endpoint);
    if (problem) throw new CniError(CniCode.checkFailed, 'the node’s side is not as it was set up', problem);
    await plugin.run(checkPlan(endpoint), CniCode.checkFailed, 'the pod’s side is not as it was set up');
    return '';
  },

  async GC(request, plugin, options) {
    const valid = request.valid;
    // A runtime that does not say who stays asks for what nobody owns.
    if (!valid) {
      await options.endpoints.sweep();
      return '';
    }
    const stale = [...options.endpoints.table.values()].filter(
      each => each.network === request.network && each.state !== 'creating' && !valid.has(endpointKey(each)),
    );
    for (const each of stale) options.endpoints.markDeleting(endpointKey(each));
    for (const each of stale) await options.programmed(endpointKey(each));
    const plan = deletePlan(stale.map(each => ({ hostIfName: each.hostIfName, key: endpointKey(each) })));
    await plugin.run(plan, CniCode.io, 'delete interfaces of pods that are gone');
    for (const each of stale) options.endpoints.remove(endpointKey(each));
    if (stale.length) options.log.info({ removed: stale.map(endpointKey) }, 'endpoints collected');
    return '';
  },

  async STATUS(_request, _plugin, { problem }) {
    const reason = problem();
    if (reason) throw new CniError(CniCode.notAvailable, 'the datapath is not ready', reason);
    return '';
  },
};

/** The identity, or undefined after the bounded wait; then it is set when it arrives. */
async function identityOf(endpoint: Endpoint, options: CniServerOptions): Promise<number | undefined> {
  const key = endpointKey(endpoint);
  const asked = options.identify(endpoint);
  const failed = (error: unknown): undefined => {
    options.log.error({ endpoint: key, error }, 'identity of a new endpoint');
  };
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<undefined>(resolve => {
    timer = setTimeout(resolve, options.identityWait ?? 5000, undefined);
  });
  const identity = await Promise.race([asked.catch(failed), late]);
  clearTimeout(timer);
  if (identity === undefined) {
    options.log.warn({ endpoint: key }, 'the pod starts as reserved:init: its identity is not known yet');
    void asked.then(
      number => {
        if (options.endpoints.table.get(key)?.id === endpoint.id) options.endpoints.setIdentity(key, number);
      },
      () => undefined,
    );
  }
  return identity;
}
