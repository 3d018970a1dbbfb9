/** Tells when routes change, from the kernel's own notifications. */
import { Netlink, RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV6_ROUTE } from './netlink.ts';
import { PROTOCOL_ISTHMUS, RTM_DELROUTE, RTM_NEWROUTE } from './route.ts';

export interface RouteWatchOptions {
  /** Somebody else's route came, went or changed, or notifications were lost: list them again. */
  readonly onChange: () => void;
  readonly signal: AbortSignal;
  /** Milliseconds between looks, as for links. */
  readonly interval?: number;
}

/** Calls back at most once a look, until the signal aborts. Our own routes are no news. */
export function watchRoutes(options: RouteWatchOptions): void {
  const netlink = new Netlink([RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV6_ROUTE]);
  const timer = setInterval(() => {
    const { messages, lost } = netlink.poll();
    const changed = messages.some(
      // struct rtmsg: the protocol is byte 5.
      ({ type, body }) => (type === RTM_NEWROUTE || type === RTM_DELROUTE) && body[5] !== PROTOCOL_ISTHMUS,
    );
    if (lost || changed) options.onChange();
  }, options.interval ?? 100);
  timer.unref();
  const stop = (): void => {
    clearInterval(timer);
    netlink[Symbol.dispose]();
  };
  if (options.signal.aborted) stop();
  else options.signal.addEventListener('abort', stop, { once: true });
}
