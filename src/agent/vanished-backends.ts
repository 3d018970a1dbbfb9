import { isHostPrefix } from '../api/prefix.ts';
import { format } from '../datapath/address.ts';
import { sendFrame } from '../datapath/address-announcement.ts';
import type { Datapath, VanishedSocket } from '../datapath/object.ts';
import { portUnreachable, tcpReset } from '../datapath/reset-frame.ts';
import { destroySocket } from '../datapath/socket-destroy.ts';
import { backendKey } from '../loadbalancer/backend.ts';
import type { ReadonlyTable } from '../table/table.ts';
import type { EndpointMapRow } from './endpoint.ts';

export interface VanishedBackendsOptions {
  readonly datapath: Datapath;
  /** Whose rows of one address are the pods that there are. */
  readonly ipcache: ReadonlyTable<{ readonly prefix: string }>;
  /** By `backendKey`: still a backend of some service. */
  readonly isBackend: (key: string) => boolean;
  readonly signal: AbortSignal;
  readonly onEnded: (count: number) => void;
  readonly onError: (error: Error) => void;
}

/** Milliseconds from a change to the look at sockets: what vanishes together is looked at once. */
const GATHER = 20;
/** Looks take at most one part in this many of the agent's time, however many sockets there are. */
const SHARE = 20;
const protocols: Readonly<Record<number, 'TCP' | 'UDP'>> = { 6: 'TCP', 17: 'UDP' };

/**
 * Ends the connections of sockets that were sent to a pod which is no more: neither a backend of any service nor an
 * address of any pod. A pod that is only out of service (terminating, not ready, without the label) keeps them.
 * Processes in pods get a reset, or for datagrams a port unreachable, as from the pod's own kernel while it was there;
 * those of the node have their socket destroyed. Connections that are translated packet by packet are reset by the
 * programs at their next packet.
 */
export class VanishedBackends {
  readonly #options: VanishedBackendsOptions;
  #timer: NodeJS.Timeout | undefined;
  #pause = GATHER;

  constructor(options: VanishedBackendsOptions) {
    this.#options = options;
    options.signal.addEventListener('abort', () => clearTimeout(this.#timer));
    options.ipcache.subscribe(({ before, after }) => {
      if (before && !after && isHostPrefix(before.prefix)) this.look();
    });
    this.look();
  }

  /** Something has gone: looks at the sockets soon. */
  look(): void {
    if (this.#options.signal.aborted) return;
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      this.#end();
    }, this.#pause).unref();
  }

  #end(): void {
    const { datapath, isBackend, onEnded, onError } = this.#options;
    const started = performance.now();
    let ended = 0;
    try {
      for (const socket of datapath.vanishedSockets()) {
        const protocol = protocols[socket.proto];
        if (!protocol || isBackend(backendKey(format(socket.remote), socket.remote_port, protocol))) continue;
        try {
          endConnection(datapath, socket);
          ended++;
        } catch (error) {
          onError(error instanceof Error ? error : new Error(String(error)));
        }
      }
    } catch (error) {
      onError(error instanceof Error ? error : new Error(String(error)));
    }
    this.#pause = Math.max(GATHER, (performance.now() - started) * SHARE);
    if (ended) onEnded(ended);
  }
}

/** Tells a socket that its peer is gone, whichever namespace it is in. */
export function endConnection(datapath: Datapath, socket: VanishedSocket): void {
  const endpoint = datapath
    .map<EndpointMapRow['key'], EndpointMapRow['value']>('endpoints')
    .get({ cluster_id: 0, pad: 0, addr: socket.local });
  if (!endpoint?.ifindex) {
    destroySocket(socket);
    return;
  }
  const at = {
    mac: endpoint.mac,
    ownMac: endpoint.host_mac,
    local: socket.local,
    remote: socket.remote,
    localPort: socket.local_port,
    remotePort: socket.remote_port,
  };
  const { protocol, bytes } =
    socket.proto === 6
      ? tcpReset({ ...at, receiveNext: socket.receive_next, sendNext: socket.send_next })
      : portUnreachable(at);
  sendFrame(endpoint.ifindex, bytes, protocol);
}
