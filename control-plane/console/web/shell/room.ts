import type { ComponentType } from 'preact';
import type { Role } from '../session/session.js';
import type { IconName } from './icons.js';

/** A page of a role. */
export interface RoomPage {
  /** Full path; `:name` parts become `params`. */
  path: string;
  /** Of the window, before the product's name. */
  title: string;
  /** The page, or what loads it: a page beside the first one is loaded when it is opened. */
  page: ComponentType<PageProps> | (() => Promise<{ default: ComponentType<PageProps> }>);
  /** Whether `page` is to be called to load it. */
  lazy?: boolean;
}

export interface PageProps {
  params: Readonly<Record<string, string>>;
}

export interface NavigationItem {
  path: string;
  label: string;
  icon: IconName;
  /** One of the few in the bar of a phone; the others are behind More. */
  main?: boolean;
  /** Heading that the item and those after it stand under in the side menu. */
  group?: string;
}

/** What a role's `index.tsx` exports as `room`. */
export interface Room {
  role: Role;
  /** What the role is called in the menu. */
  name: string;
  home: string;
  pages: readonly RoomPage[];
  navigation: readonly NavigationItem[];
}
