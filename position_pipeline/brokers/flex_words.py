"""The words of a Flex file that we know: elements, attributes, codes, types, currencies.

Belongs here: lists. An unknown word never stops an import; these lists only decide what is worth telling. IBKR adds words at any time.
"""

from __future__ import annotations

# ruff: noqa: SIM905 (lists of words are read most easily as words)

TRADE_TAGS = frozenset({"Trade", "Order"})
IGNORED_TAGS = frozenset({"Lot", "SymbolSummary", "AssetSummary", "WashSale"})
"""Rows beside the trades that sum them up or split them; taking them too would count twice."""

ROW_TAGS = TRADE_TAGS | {"OpenPosition", "CorporateAction", "CashTransaction", "OptionEAE", "Transfer", "AccountInformation"}

SECTIONS = frozenset(
    """
    AccountInformation CFDCharges CashReport CashTransactions ChangeInDividendAccruals ChangeInNAV CommissionDetails
    ComplexPositions ConversionRates CorporateActions DebitCardActivities DepositsOnHold EquitySummaryInBase FdicInsuredDepositsByBank
    FxLots FxPositions FxTransactions HKIPOOpenSubscriptions HKIPOSubscriptionActivity HardToBorrowDetails IBGNoteTransactions
    IncentiveCouponAccrualDetails InterestAccruals MTDYTDPerformanceSummary MTMPerformanceSummaryInBase
    FIFOPerformanceSummaryInBase NetStockPositionSummary OpenDividendAccruals OpenPositions OptionEAE PendingExcercises
    PriorPeriodPositions RoutingCommissions SLBActivities SLBCollaterals SLBFees SLBOpenContracts SalesTaxes SecuritiesInfo
    SoftDollars StatementOfFunds StmtFunds TierInterestDetails TradeTransfers Trades TransactionTaxes Transfers UnbookedTrades
    UnbundledCommissionDetails UnsettledTransfers
    """.split()
)

ATTRIBUTES = frozenset(
    """
    accountId accruedInt acctAlias actionDescription actionID amount assetCategory availableForTradingDate brokerageOrderID buySell
    changeInPrice changeInQuantity clearingFirmID clientReference closePrice code commisionsAndTax commodityType conid cost costBasis
    costBasisMoney costBasisPrice currency cusip date dateTime deliveryType description exDate exchOrderId exchange expiry extExecID
    fifoPnlRealized fifoPnlUnrealized figi fineness fxPnl fxRateToBase holdingPeriodDateTime ibCommission ibCommissionCurrency ibExecID
    ibOrderID initialInvestment isAPIOrder isin issuer issuerCountryCode levelOfDetail listingExchange markPrice model mtmPnl multiplier
    netCash notes openCloseIndicator openDateTime openPrice orderID orderReference orderTime orderType origOrderID origTradeDate
    origTradeID origTradePrice origTransactionID originatingOrderID originatingTransactionID percentOfNAV position positionActionID
    positionValue positionValueInBase principalAdjustFactor proceeds putCall quantity realizedPnl relatedTradeID relatedTransactionID
    reportDate rtn securityID securityIDType serialNumber settleDate settleDateTarget side strike subCategory symbol taxes tradeDate
    tradeID tradeMoney tradePrice tradeTime traderID transactionID transactionType type underlyingConid underlyingListingExchange
    underlyingSecurityID underlyingSymbol value vestingDate volatilityOrderLink weight whenRealized whenReopened
    account accountName cashTransfer company capitalGainsPnl deliveringBroker direction fifoPnlRealizedInBase pnlAmount
    pnlAmountInBase positionAmount positionAmountInBase transferPrice
    """.split()
)

CODES = frozenset(
    """
    A Adj AFx Al Aw B Ca CD Co C Cx D Ep ETF Ex FP G HC I IA L LD LI LT M ML MLG MLL MSG MSL O P Po Pr R Re RP SI SL SO SS ST T
    """.split()
)

ASSET_CATEGORIES = frozenset("STK OPT FUT FOP CASH BOND BILL FUND WAR IOPT CFD FXCFD CRYPTO CMDTY FSFOP FSOPT BAG".split())
OPTIONS = frozenset({"OPT", "FOP", "FSOPT", "FSFOP", "WAR", "IOPT"})
DERIVATIVES = OPTIONS | {"FUT"}
UNIT_MULTIPLIER = frozenset({"STK", "CASH", "FUND", "CRYPTO", "CMDTY", "CFD", "FXCFD"})
"""Asset categories whose multiplier is 1 where the file gives none."""

PERCENT_PRICED = frozenset({"BOND", "BILL"})
"""Priced in percent of the face value, which is the quantity."""

TRANSACTION_TYPES = frozenset("ExchTrade BookTrade FracShare FracShareCancel TradeCancel TradeCorrect DvpTrade".split())

CORPORATE_ACTIONS = frozenset("BC BM CA CC CD CH CO CP CS CT DI DW ED FI FS GV HD HI IC OR PC PI PV RI RS SD SO SR TC TI TM TO".split())

CASH_TYPES = frozenset(
    {
        "Advisor Fees", "Bond Interest Paid", "Bond Interest Received", "Broker Interest Paid", "Broker Interest Received",
        "Commission Adjustments", "Deposits & Withdrawals", "Deposits/Withdrawals", "Dividends", "Other Fees",
        "Payment In Lieu Of Dividends", "Price Adjustments", "Withholding Tax", "871(m) Withholding",
    }
)  # fmt: skip

CURRENCIES = frozenset(
    """
    AED AUD BGN BRL CAD CHF CNH CNY CZK DKK EUR GBP HKD HUF IDR ILS INR ISK JPY KRW MXN MYR NOK NZD PHP PLN QAR RON RUB SAR SEK SGD
    THB TRY TWD USD ZAR
    """.split()
)

ERRORS_TO_REPEAT = frozenset("1001 1004 1005 1006 1007 1008 1009 1018 1019 1021".split())
"""Codes of the Flex service that pass by themselves."""
