/** Tells when routes change, from the kernel's own notifications. */
import { RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV6_ROUTE } from './netlink.ts';
import { type NetlinkWatchOptions, watchNetlink } from './netlink-watch.ts';
import { PROTOCOL_ISTHMUS, RTM_DELROUTE, RTM_NEWROUTE } from './route.ts';

export interface RouteWatchOptions extends NetlinkWatchOptions {
  /** Somebody else's route came, went or changed, or notifications were lost: list them again. */
  readonly onChange: () => void;
}

/** Calls back at most once a look, until the signal aborts. Our own routes are no news. */
export function watchRoutes(options: RouteWatchOptions): void {
  watchNetlink([RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV6_ROUTE], options, ({ messages, lost }) => {
    const changed = messages.some(
      // struct rtmsg: the protocol is byte 5.
      ({ type, body }) => (type === RTM_NEWROUTE || type === RTM_DELROUTE) && body[5] !== PROTOCOL_ISTHMUS,
    );
    if (lost || changed) options.onChange();
  });
}
