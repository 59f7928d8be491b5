import type { CheckoutRefusal } from '../topups/stars.js';
import type { Language } from '../users/users.js';

type LinkRefusal = 'link_expired' | 'telegram_taken' | 'too_many_telegrams' | 'forbidden';

/** What the bot says. Amounts are dollars without the sign. */
interface Texts {
  welcome: string;
  welcomeBack: string;
  banned: string;
  linked: string;
  linkRefused: Readonly<Record<LinkRefusal, string>>;
  buyerLinked: (buyer: string) => string;
  buyerLinkRefused: Readonly<Record<LinkRefusal, string>>;
  notABuyer: string;
  topupUsage: (min: string, max: string) => string;
  noStars: string;
  credited: (amount: string) => string;
  paymentReturned: string;
  /** Shown by Telegram in the payment dialogue. */
  checkoutRefused: Readonly<Record<CheckoutRefusal, string>>;
  paySupport: string;
}

export const TEXTS: Readonly<Record<Language, Texts>> = {
  en: {
    welcome:
      'Welcome to Traffic Share! Install the app, accept the terms and press Start: you earn for the bandwidth you share.',
    welcomeBack: 'Welcome back to Traffic Share.',
    banned: 'This account is banned. Write to support if you think that is a mistake.',
    linked: 'Done: this Telegram account is linked to your Traffic Share account.',
    linkRefused: {
      link_expired: 'This link was used or is too old. Ask for a new one in the app.',
      telegram_taken: 'This Telegram account belongs to another Traffic Share user.',
      too_many_telegrams: 'There are as many Telegram accounts as there may be. Unlink one first.',
      forbidden: 'Telegram accounts can not be linked to this user.',
    },
    buyerLinked: (buyer) => `Done: you can top up the balance of ${buyer} here: /topup 25`,
    buyerLinkRefused: {
      link_expired: 'This link was used or is too old. Make a new one through the API.',
      telegram_taken: 'This Telegram account is linked to another buyer.',
      too_many_telegrams: 'This buyer has as many Telegram accounts as there may be. Unlink one first.',
      forbidden: 'This buyer account is not active.',
    },
    notABuyer: 'This Telegram account is not linked to a buyer. Open the link of your buyer account first.',
    topupUsage: (min, max) => `How many dollars? From ${min} to ${max}, for example: /topup 25`,
    noStars: 'That can not be paid in Telegram Stars at the moment.',
    credited: (amount) => `Thank you! $${amount} are on your balance.`,
    paymentReturned: 'This payment fits no open invoice. Nothing was booked, your Stars come back.',
    checkoutRefused: {
      unknown_order: 'There is no such invoice. Please ask for a new one.',
      wrong_amount: 'The amount is not that of the invoice. Please ask for a new one.',
      not_open: 'This invoice is paid or cancelled.',
      expired: 'This invoice is too old. Please ask for a new one.',
      being_paid: 'Somebody is paying this invoice right now.',
      buyer_not_active: 'This buyer account is not active.',
    },
    paySupport:
      'Trouble with a payment? Write to support with the day and the number of Stars: an admin can give them back.',
  },
  ru: {
    welcome:
      'Добро пожаловать в Traffic Share! Установите приложение, примите условия и нажмите «Старт»: вы зарабатываете на трафике, которым делитесь.',
    welcomeBack: 'С возвращением в Traffic Share.',
    banned: 'Этот аккаунт заблокирован. Если это ошибка, напишите в поддержку.',
    linked: 'Готово: этот Telegram привязан к вашему аккаунту Traffic Share.',
    linkRefused: {
      link_expired: 'Ссылка уже использована или устарела. Запросите новую в приложении.',
      telegram_taken: 'Этот Telegram принадлежит другому пользователю Traffic Share.',
      too_many_telegrams: 'Больше аккаунтов Telegram привязать нельзя. Сначала отвяжите один.',
      forbidden: 'К этому пользователю нельзя привязать Telegram.',
    },
    buyerLinked: (buyer) => `Готово: здесь можно пополнять баланс ${buyer}: /topup 25`,
    buyerLinkRefused: {
      link_expired: 'Ссылка уже использована или устарела. Создайте новую через API.',
      telegram_taken: 'Этот Telegram привязан к другому покупателю.',
      too_many_telegrams: 'У этого покупателя больше нельзя привязать Telegram. Сначала отвяжите один.',
      forbidden: 'Этот аккаунт покупателя не активен.',
    },
    notABuyer: 'Этот Telegram не привязан к покупателю. Сначала откройте ссылку своего аккаунта покупателя.',
    topupUsage: (min, max) => `Сколько долларов? От ${min} до ${max}, например: /topup 25`,
    noStars: 'Сейчас оплатить звёздами Telegram нельзя.',
    credited: (amount) => `Спасибо! На балансе прибавилось ${amount} $.`,
    paymentReturned: 'Для этого платежа нет открытого счёта. Ничего не зачислено, звёзды вернутся.',
    checkoutRefused: {
      unknown_order: 'Такого счёта нет. Запросите новый.',
      wrong_amount: 'Сумма не совпадает со счётом. Запросите новый.',
      not_open: 'Счёт уже оплачен или отменён.',
      expired: 'Счёт устарел. Запросите новый.',
      being_paid: 'Этот счёт сейчас уже оплачивают.',
      buyer_not_active: 'Этот аккаунт покупателя не активен.',
    },
    paySupport:
      'Проблема с платежом? Напишите в поддержку, указав день и число звёзд: администратор может их вернуть.',
  },
  uz: {
    welcome:
      'Traffic Share’ga xush kelibsiz! Ilovani o‘rnating, shartlarni qabul qiling va «Start»ni bosing: ulashgan trafigingiz uchun pul olasiz.',
    welcomeBack: 'Traffic Share’ga qaytganingiz bilan.',
    banned: 'Bu hisob bloklangan. Xato deb hisoblasangiz, qo‘llab-quvvatlashga yozing.',
    linked: 'Tayyor: bu Telegram Traffic Share hisobingizga bog‘landi.',
    linkRefused: {
      link_expired: 'Havola ishlatilgan yoki eskirgan. Ilovada yangisini so‘rang.',
      telegram_taken: 'Bu Telegram boshqa Traffic Share foydalanuvchisiga tegishli.',
      too_many_telegrams: 'Boshqa Telegram bog‘lab bo‘lmaydi. Avval bittasini uzing.',
      forbidden: 'Bu foydalanuvchiga Telegram bog‘lab bo‘lmaydi.',
    },
    buyerLinked: (buyer) => `Tayyor: ${buyer} balansini shu yerda to‘ldirish mumkin: /topup 25`,
    buyerLinkRefused: {
      link_expired: 'Havola ishlatilgan yoki eskirgan. API orqali yangisini yarating.',
      telegram_taken: 'Bu Telegram boshqa xaridorga bog‘langan.',
      too_many_telegrams: 'Bu xaridorga boshqa Telegram bog‘lab bo‘lmaydi. Avval bittasini uzing.',
      forbidden: 'Bu xaridor hisobi faol emas.',
    },
    notABuyer: 'Bu Telegram xaridorga bog‘lanmagan. Avval xaridor hisobingiz havolasini oching.',
    topupUsage: (min, max) => `Necha dollar? ${min} dan ${max} gacha, masalan: /topup 25`,
    noStars: 'Hozircha Telegram Stars bilan to‘lab bo‘lmaydi.',
    credited: (amount) => `Rahmat! Balansingizga ${amount} $ qo‘shildi.`,
    paymentReturned: 'Bu to‘lovga ochiq hisob-faktura yo‘q. Hech narsa yozilmadi, Stars qaytariladi.',
    checkoutRefused: {
      unknown_order: 'Bunday hisob-faktura yo‘q. Yangisini so‘rang.',
      wrong_amount: 'Summa hisob-fakturaga mos emas. Yangisini so‘rang.',
      not_open: 'Hisob-faktura to‘langan yoki bekor qilingan.',
      expired: 'Hisob-faktura eskirgan. Yangisini so‘rang.',
      being_paid: 'Bu hisob-faktura hozir to‘lanmoqda.',
      buyer_not_active: 'Bu xaridor hisobi faol emas.',
    },
    paySupport:
      'To‘lovda muammo bormi? Kun va Stars sonini yozib, qo‘llab-quvvatlashga murojaat qiling: administrator qaytara oladi.',
  },
};
