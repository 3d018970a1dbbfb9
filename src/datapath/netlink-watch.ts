import { Netlink } from './netlink.ts';

export interface NetlinkWatchOptions {
  readonly signal: AbortSignal;
  /** Milliseconds between looks. Node cannot wait on a netlink socket itself; one look costs a microsecond. */
  readonly interval?: number;
}

/** What came since the last look; `lost`: the kernel dropped some of it. */
export type Notifications = ReturnType<Netlink['poll']>;

/** Looks for notifications of these groups from now on, until the signal aborts. Never holds the event loop open. */
export function watchNetlink(
  groups: readonly number[],
  options: NetlinkWatchOptions,
  look: (news: Notifications) => void,
): void {
  const netlink = new Netlink(groups);
  const timer = setInterval(() => look(netlink.poll()), options.interval ?? 100);
  timer.unref();
  const stop = (): void => {
    clearInterval(timer);
    netlink[Symbol.dispose]();
  };
  if (options.signal.aborted) stop();
  else options.signal.addEventListener('abort', stop, { once: true });
}
