import './provider.css';
import type { Room } from '../shell/room.js';
import { Overview } from './overview.js';

/** What people who share see; also the Mini App. */
export const room: Room = {
  role: 'provider',
  name: 'Sharing',
  home: '/provider',
  pages: [
    { path: '/provider', title: 'Overview', page: Overview },
    { path: '/provider/devices', title: 'Devices', lazy: true, page: () => import('./devices.js') },
    {
      path: '/provider/traffic',
      title: 'What went through me',
      lazy: true,
      page: () => import('./traffic.js'),
    },
    { path: '/provider/traffic/:id', title: 'Session', lazy: true, page: () => import('./session.js') },
    { path: '/provider/money', title: 'Money', lazy: true, page: () => import('./money.js') },
    { path: '/provider/withdraw', title: 'Withdraw', lazy: true, page: () => import('./withdraw.js') },
    { path: '/provider/limits', title: 'Limits', lazy: true, page: () => import('./limits.js') },
    { path: '/provider/consent', title: 'Consent', lazy: true, page: () => import('./consent.js') },
    { path: '/provider/invite', title: 'Invite and bonuses', lazy: true, page: () => import('./invite.js') },
    { path: '/provider/inbox', title: 'Inbox', lazy: true, page: () => import('./inbox.js') },
    { path: '/provider/support', title: 'Support', lazy: true, page: () => import('./support.js') },
    {
      path: '/provider/support/:id',
      title: 'Support request',
      lazy: true,
      page: () => import('./thread.js'),
    },
    { path: '/provider/account', title: 'Account', lazy: true, page: () => import('./account.js') },
  ],
  navigation: [
    { path: '/provider', label: 'Overview', icon: 'home', main: true },
    { path: '/provider/devices', label: 'Devices', icon: 'devices', main: true },
    { path: '/provider/traffic', label: 'Traffic', icon: 'activity', main: true },
    { path: '/provider/limits', label: 'Limits', icon: 'settings' },
    { path: '/provider/money', label: 'Money', icon: 'money', group: 'Earnings' },
    { path: '/provider/withdraw', label: 'Withdraw', icon: 'wallet', main: true },
    { path: '/provider/invite', label: 'Invite', icon: 'gift' },
    { path: '/provider/inbox', label: 'Inbox', icon: 'bell', group: 'You' },
    { path: '/provider/support', label: 'Support', icon: 'help' },
    { path: '/provider/consent', label: 'Consent', icon: 'shield' },
    { path: '/provider/account', label: 'Account', icon: 'user' },
  ],
};
