/** Tells when devices or their addresses change, from the kernel's own notifications. */
import { decodeLink, type Link, RTM_DELLINK, RTM_NEWLINK } from './link.ts';
import { decodeAddress, type LinkAddress, RTM_DELADDR, RTM_NEWADDR } from './link-address.ts';
import { RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV6_IFADDR, RTNLGRP_LINK } from './netlink.ts';
import { type NetlinkWatchOptions, watchNetlink } from './netlink-watch.ts';

export type LinkEvent =
  | { readonly type: 'link'; readonly link: Link }
  | { readonly type: 'link-gone'; readonly link: Link }
  | { readonly type: 'address'; readonly address: LinkAddress }
  | { readonly type: 'address-gone'; readonly address: LinkAddress }
  /** The kernel dropped notifications: list everything again. */
  | { readonly type: 'lost' };

export interface LinkWatchOptions extends NetlinkWatchOptions {
  readonly onEvent: (event: LinkEvent) => void;
}

/** Calls back for every change from now on, until the signal aborts. Never holds the event loop open. */
export function watchLinks(options: LinkWatchOptions): void {
  const groups = [RTNLGRP_LINK, RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV6_IFADDR];
  watchNetlink(groups, options, ({ messages, lost }) => {
    if (lost) options.onEvent({ type: 'lost' });
    for (const { type, body } of messages) {
      if (type === RTM_NEWLINK) options.onEvent({ type: 'link', link: decodeLink(body) });
      else if (type === RTM_DELLINK) options.onEvent({ type: 'link-gone', link: decodeLink(body) });
      else if (type === RTM_NEWADDR) options.onEvent({ type: 'address', address: decodeAddress(body) });
      else if (type === RTM_DELADDR) options.onEvent({ type: 'address-gone', address: decodeAddress(body) });
    }
  });
}
