import type { Language } from '../users/users.js';

/** What is known of a device when its owner asks why it does not earn. */
export interface DeviceFacts {
  ownerStatus: 'active' | 'banned' | 'deleted';
  /** The terms in force are accepted. */
  consentCurrent: boolean;
  /** Its app is older than the oldest that may share. */
  clientOutdated: boolean;
  /** Its tunnel; null: it holds none; `unknown`: the live state is away. */
  tunnel: { status: 'sharing' | 'paused' | 'draining'; streams: number } | null | 'unknown';
  /** Whose traffic session has the live package of this owner and exit IP; null: there is no such package. */
  packageHolder: 'this_session' | 'other_session' | null;
  /** Where the device shares or was seen last, ISO 3166; null: never. */
  country: string | null;
  /** The refusal of its last start, when that was because of the address. */
  refusal: { code: string; rule: string } | null;
  /** Which of the owner's caps is used up. */
  capReached: 'day' | 'month' | null;
}

type Words = Record<Language, { what: string; todo: string }>;

/**
 * Every state a device can be in, whether it earns then, what that means and what its owner can do. Codes are stable;
 * the words are for people.
 */
export const DEVICE_STATES = {
  earning: {
    earns: true,
    en: { what: 'A buyer uses this device.', todo: 'Nothing: leave it on.' },
    ru: { what: 'Устройством пользуется покупатель.', todo: 'Ничего не нужно: оставьте его включённым.' },
    uz: { what: 'Qurilmadan xaridor foydalanmoqda.', todo: 'Hech narsa: uni yoqiq qoldiring.' },
  },
  idle: {
    earns: false,
    en: {
      what: 'The device is ready, but no buyer wants this place now.',
      todo: 'Leave it on: buyers come and go.',
    },
    ru: {
      what: 'Устройство готово, но сейчас на это место нет спроса.',
      todo: 'Оставьте его включённым: покупатели приходят и уходят.',
    },
    uz: {
      what: 'Qurilma tayyor, lekin hozir bu joyga talab yo‘q.',
      todo: 'Uni yoqiq qoldiring: xaridorlar kelib-ketib turadi.',
    },
  },
  address_in_use: {
    earns: false,
    en: {
      what: 'Another device of yours earns with this address: one address serves one buyer at a time.',
      todo: 'Put this device on another network, for example mobile data.',
    },
    ru: {
      what: 'С этого адреса уже зарабатывает другое ваше устройство: один адрес — один покупатель.',
      todo: 'Подключите это устройство к другой сети, например к мобильной.',
    },
    uz: {
      what: 'Bu manzil bilan boshqa qurilmangiz ishlamoqda: bitta manzil — bitta xaridor.',
      todo: 'Bu qurilmani boshqa tarmoqqa ulang, masalan mobil internetga.',
    },
  },
  network_refused: {
    earns: false,
    en: {
      what: 'Sharing is not open to the network this device is on; `detail` names the rule.',
      todo: 'Turn a VPN off, or use another network.',
    },
    ru: {
      what: 'Из этой сети делиться трафиком нельзя; правило указано в `detail`.',
      todo: 'Выключите VPN или смените сеть.',
    },
    uz: {
      what: 'Bu tarmoqdan trafik ulashib bo‘lmaydi; qoida `detail` da ko‘rsatilgan.',
      todo: 'VPN ni o‘chiring yoki boshqa tarmoqqa ulaning.',
    },
  },
  cap_reached: {
    earns: false,
    en: {
      what: 'Your own data cap is used up.',
      todo: 'Raise the cap in the settings, or wait until it starts anew.',
    },
    ru: {
      what: 'Ваш собственный лимит трафика исчерпан.',
      todo: 'Увеличьте лимит в настройках или дождитесь нового периода.',
    },
    uz: {
      what: 'O‘zingiz belgilagan trafik chegarasi tugadi.',
      todo: 'Sozlamalarda chegarani oshiring yoki yangi davrni kuting.',
    },
  },
  paused: {
    earns: false,
    en: {
      what: 'The device is paused: by you, by its hours, or until Wi-Fi or the charger is back.',
      todo: 'Press resume, or look at the settings for hours, Wi-Fi and charging.',
    },
    ru: {
      what: 'Устройство на паузе: из-за вас, расписания, Wi-Fi или зарядки.',
      todo: 'Нажмите «Продолжить» или проверьте настройки времени, Wi-Fi и зарядки.',
    },
    uz: {
      what: 'Qurilma to‘xtatib turilgan: siz, jadval, Wi-Fi yoki quvvatlash sababli.',
      todo: '«Davom etish» ni bosing yoki vaqt, Wi-Fi va quvvatlash sozlamalarini tekshiring.',
    },
  },
  moving: {
    earns: false,
    en: {
      what: 'The gateway of this device is being updated.',
      todo: 'Nothing: the device goes to another one by itself.',
    },
    ru: {
      what: 'Шлюз этого устройства обновляется.',
      todo: 'Ничего не нужно: устройство само перейдёт на другой.',
    },
    uz: {
      what: 'Qurilma ulangan shlyuz yangilanmoqda.',
      todo: 'Hech narsa: qurilma o‘zi boshqasiga o‘tadi.',
    },
  },
  client_outdated: {
    earns: false,
    en: { what: 'This version of the app may not share any more.', todo: 'Update the app.' },
    ru: { what: 'Эта версия приложения больше не поддерживается.', todo: 'Обновите приложение.' },
    uz: { what: 'Ilovaning bu versiyasi endi qo‘llab-quvvatlanmaydi.', todo: 'Ilovani yangilang.' },
  },
  consent_missing: {
    earns: false,
    en: { what: 'The current terms are not accepted.', todo: 'Read and accept the terms.' },
    ru: { what: 'Действующие условия не приняты.', todo: 'Прочитайте и примите условия.' },
    uz: { what: 'Amaldagi shartlar qabul qilinmagan.', todo: 'Shartlarni o‘qing va qabul qiling.' },
  },
  offline: {
    earns: false,
    en: { what: 'The device is not connected.', todo: 'Open the app and press Start.' },
    ru: { what: 'Устройство не подключено.', todo: 'Откройте приложение и нажмите «Старт».' },
    uz: { what: 'Qurilma ulanmagan.', todo: 'Ilovani oching va «Start» ni bosing.' },
  },
  banned: {
    earns: false,
    en: { what: 'This account is banned.', todo: 'Write to support.' },
    ru: { what: 'Аккаунт заблокирован.', todo: 'Напишите в поддержку.' },
    uz: { what: 'Hisob bloklangan.', todo: 'Yordam xizmatiga yozing.' },
  },
  unknown: {
    earns: false,
    en: { what: 'The state is not known at the moment.', todo: 'Look again in a minute.' },
    ru: { what: 'Состояние сейчас неизвестно.', todo: 'Проверьте через минуту.' },
    uz: { what: 'Holat hozircha noma’lum.', todo: 'Bir daqiqadan so‘ng qayta qarang.' },
  },
} as const satisfies Record<string, { earns: boolean } & Words>;

export type DeviceStateCode = keyof typeof DEVICE_STATES;

/** A state with what narrows it: the rule that refused, the cap that is used up, the country nobody asks for. */
export interface DeviceState {
  code: DeviceStateCode;
  detail: string | null;
}

/** Why the device earns or not: the first reason that holds, those its owner must act on before the others. */
export function deviceState(facts: DeviceFacts): DeviceState {
  const { tunnel, refusal } = facts;
  if (facts.ownerStatus !== 'active') return { code: 'banned', detail: null };
  if (!facts.consentCurrent) return { code: 'consent_missing', detail: null };
  if (tunnel === 'unknown') return { code: 'unknown', detail: null };
  if (tunnel === null) {
    if (facts.clientOutdated) return { code: 'client_outdated', detail: null };
    if (refusal !== null) return { code: 'network_refused', detail: `${refusal.code}: ${refusal.rule}` };
    return { code: 'offline', detail: null };
  }
  if (tunnel.status === 'draining') return { code: 'moving', detail: null };
  if (tunnel.status === 'paused')
    return facts.capReached === null
      ? { code: 'paused', detail: null }
      : { code: 'cap_reached', detail: facts.capReached };
  if (tunnel.streams > 0 || facts.packageHolder === 'this_session') return { code: 'earning', detail: null };
  if (facts.packageHolder === 'other_session') return { code: 'address_in_use', detail: null };
  return { code: 'idle', detail: facts.country };
}
